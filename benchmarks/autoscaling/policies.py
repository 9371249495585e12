"""The policies that are compared: ours, as the operator runs it, and two others as their projects publish them."""

import math
from collections.abc import Callable
from typing import Final, Protocol

from onceserve_operator.api.autoscaling import Autoscaling, ScalingMetric
from onceserve_operator.autoscaling import policy
from onceserve_operator.autoscaling.load import Readings

TARGET: Final = 5.0
"""Concurrent requests that each pod should have, of the 8 that it works on at once."""
LEAST: Final = 2
MOST: Final = 40


class Policy(Protocol):
    """Decides about replicas every `period` seconds."""

    period: float

    def decide(self, replicas: int, readings: Readings, now: float) -> int:
        """Return how many pods there should be, by what the ready ones told."""
        ...


class Ours:
    """The policy of the operator."""

    period = policy.PERIOD

    def __init__(self, metric: ScalingMetric = ScalingMetric.CONCURRENCY, target: str = f"{TARGET:g}") -> None:
        self._asked = Autoscaling(min_replicas=LEAST, max_replicas=MOST, metric=metric, target=target)
        self._memory = policy.Memory()

    def decide(self, replicas: int, readings: Readings, now: float) -> int:
        """Return how many pods there should be, by what the ready ones told."""
        situation = policy.Situation(self._asked, replicas, readings, frozenset({"revision"}))
        self._memory, scaling = policy.decide(self._memory, situation, now)
        return scaling.replicas


class Horizontal:
    """The algorithm of the HorizontalPodAutoscaler (kubernetes.io, "Algorithm details"), with its default behaviour.

    The ratio of the metric to its target times the pods, none within a tolerance of 10 %, every 15 s; up by 100 % or
    4 pods in 15 s, down to the highest recommendation of the last 300 s. Pods that are not ready count as idle.
    """

    period = 15.0

    def __init__(self) -> None:
        self._recommended: list[tuple[float, int]] = []

    def decide(self, replicas: int, readings: Readings, now: float) -> int:
        """Return how many pods there should be, by what the ready ones told."""
        known = [reading.inflight for reading in readings.values() if reading]
        if not known:
            return replicas
        wanted = _ratio(replicas, known)
        self._recommended = [(at, each) for at, each in self._recommended if at > now - 300] + [(now, wanted)]
        if wanted < replicas:
            wanted = min(replicas, max(each for _, each in self._recommended))
        return max(LEAST, min(wanted, max(2 * replicas, replicas + 4), MOST))


def _ratio(replicas: int, known: list[float]) -> int:
    usage = sum(known) / len(known) / TARGET
    if usage > 1 and len(known) < replicas:
        usage = sum(known) / replicas / TARGET
        return math.ceil(usage * replicas) if usage > 1.1 else replicas  # noqa: PLR2004 - the tolerance
    return replicas if abs(usage - 1) <= 0.1 else math.ceil(usage * len(known))  # noqa: PLR2004


class Knative:
    """The autoscaler of Knative Serving as its documents give it, with its default settings.

    Means of the total over 60 s and 6 s, every 2 s; above 200 % of what the ready pods should have, the latter counts
    and no pod goes for 60 s; at most half of the ready pods go at once.
    """

    period = 2.0

    def __init__(self) -> None:
        self._totals: list[tuple[float, float]] = []
        self._panicked_at = -math.inf
        self._most = 0

    def decide(self, replicas: int, readings: Readings, now: float) -> int:
        """Return how many pods there should be, by what the ready ones told."""
        known = [reading.inflight for reading in readings.values() if reading]
        self._totals = [(at, each) for at, each in self._totals if at > now - 60]
        if known:
            # Those that told nothing are taken to be like the others.
            self._totals.append((now, sum(known) / len(known) * len(readings)))
        recent = [each for at, each in self._totals if at > now - 6]
        if not recent:
            return replicas
        ready = max(1, len(readings))
        stable = math.ceil(sum(each for _, each in self._totals) / len(self._totals) / TARGET)
        panic = math.ceil(sum(recent) / len(recent) / TARGET)
        stable = max(stable, ready // 2)
        if panic / ready >= 2:  # noqa: PLR2004 - the threshold
            self._panicked_at = now
        if now - self._panicked_at < 60:  # noqa: PLR2004 - the stable window
            self._most = max(self._most, panic, ready)
            wanted = self._most
        else:
            self._most, wanted = 0, stable
        return max(LEAST, min(wanted, MOST))


POLICIES: Final[dict[str, Callable[[], Policy]]] = {
    "OnceServe": Ours,
    "OnceServe, QueueTime": lambda: Ours(ScalingMetric.QUEUE_TIME, "50ms"),
    "HPA": Horizontal,
    "Knative": Knative,
}
