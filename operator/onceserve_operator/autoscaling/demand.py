"""How many pods the load of two windows asks for, by metric."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from onceserve_operator import quantities
from onceserve_operator.api.autoscaling import Autoscaling, ScalingMetric
from onceserve_operator.autoscaling import capacity
from onceserve_operator.autoscaling.capacity import Capacity
from onceserve_operator.autoscaling.load import Point

TOLERANCE: Final = 0.1
"""Share of the target that must be free with fewer pods: noise alone takes none away."""
USED: Final = 0.8
"""Share of the rate at which requests waited too long that a pod should have."""
TRIED: Final = 4
"""Where that rate is not known, one pod of so many is tried without."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Pods that the load asks for."""

    stable: int
    """By the stable window."""
    burst: int
    """By the panic window."""
    enough: int
    """So few are enough, with something to spare."""
    words: str


def counts(metric: ScalingMetric, point: Point) -> bool:
    """Say whether a point has all that the metric is made of."""
    return point.told if metric is ScalingMetric.CONCURRENCY else point.counted


def tells(metric: ScalingMetric, point: Point) -> bool:
    """Say whether no pod fails to tell; one that is seen for the first time tells all it can."""
    return point.told and not (point.restarted and metric is not ScalingMetric.CONCURRENCY)


def of(
    autoscaling: Autoscaling, stable: Sequence[Point], panic: Sequence[Point], known: Capacity, replicas: int
) -> Demand:
    """Return the demand of the points of two windows; `replicas` is the most that there were of late."""
    if autoscaling.metric is ScalingMetric.QUEUE_TIME:
        return _of_waiting(autoscaling, stable, panic, known, replicas)
    target = float(autoscaling.target)
    demand = _of_load(autoscaling.metric, stable, panic, target)
    kind = "concurrent requests" if autoscaling.metric is ScalingMetric.CONCURRENCY else "requests per second"
    load = _rounded(max(mean(autoscaling.metric, stable), mean(autoscaling.metric, panic)))
    return Demand(demand.stable, demand.burst, demand.enough, f"{load} {kind}, {autoscaling.target} each")


def mean(metric: ScalingMetric, points: Iterable[Point]) -> float:
    """Return the mean load: requests in work or waiting, or requests per second."""
    known = list(points)
    seconds = sum(each.seconds for each in known)
    if not seconds:
        return 0.0
    if metric is ScalingMetric.CONCURRENCY:
        return sum(each.inflight * each.seconds for each in known) / seconds
    return sum(each.arrived for each in known) / seconds


def _of_load(metric: ScalingMetric, stable: Sequence[Point], panic: Sequence[Point], target: float) -> Demand:
    # What is partly known is at least so much; how little there is only whole points say.
    whole = mean(metric, (each for each in stable if counts(metric, each)))
    least = max(whole, mean(metric, stable))
    burst = mean(metric, panic)
    return Demand(_pods(least, target), _pods(burst, target), _pods(least, target * (1 - TOLERANCE)), "")


def _of_waiting(
    autoscaling: Autoscaling, stable: Sequence[Point], panic: Sequence[Point], known: Capacity, replicas: int
) -> Demand:
    target = quantities.seconds(autoscaling.target)
    found, pods = capacity.wait(panic), panic[-1].pods
    seconds = found.seconds if found else 0.0
    late = found is not None and found.seconds > target
    words = f"requests wait {1000 * seconds:.4g}ms, {autoscaling.target} is the target"
    if known.rate is None:
        more = math.ceil(pods / USED) if late else 0
        # Near the target, or where pods of two revisions are compared with nothing, none is tried without.
        easy = seconds <= target / 2
        return Demand(more, more, replicas - max(1, replicas // TRIED) if easy else replicas, words)
    demand = _of_load(autoscaling.metric, stable, panic, known.rate * USED)
    if not late:
        return Demand(demand.stable, demand.burst, demand.enough, words)
    more = max(demand.burst, 0 if found and found.draining else pods + 1)
    return Demand(max(demand.stable, more), more, max(demand.enough, pods), words)


def _pods(load: float, each: float) -> int:
    # A load that is a whole multiple must not ask for one more by rounding.
    return math.ceil(load / each - 1e-9)


def _rounded(load: float) -> str:
    return f"{load:.0f}" if load >= 10 else f"{load:.2g}"  # noqa: PLR2004 - two digits say enough
