"""One trace replayed through one policy."""

from dataclasses import asdict, dataclass, field
from itertools import pairwise
from random import Random
from typing import Any, Final

from benchmarks.autoscaling.pods import Fleet
from benchmarks.autoscaling.policies import LEAST, Policy
from benchmarks.autoscaling.traces import Trace

SEED: Final = 7
FIRST: Final = 4
"""Pods that there are at the beginning."""
LATENCY: Final = 1.0
"""Seconds that a call may take."""
SLICE: Final = 10.0
"""Seconds that one point of the picture stands for."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A few seconds of a replay."""

    at: float
    rate: float
    """Requests per second."""
    replicas: int
    latency: float
    """99th percentile of the answered calls, in seconds."""
    shed: int
    """Calls that were refused."""


@dataclass
class Outcome:
    """What became of a trace."""

    calls: int = 0
    late: int = 0
    """Calls that took too long or were refused."""
    pod_seconds: float = 0.0
    """Pods asked for, times seconds."""
    changes: list[tuple[float, int]] = field(default_factory=list)
    """When the number of pods was changed, and to how many."""
    slices: list[Slice] = field(default_factory=list)

    @property
    def turns(self) -> int:
        """Changes of direction."""
        rises = [after > before for (_, before), (_, after) in pairwise(self.changes)]
        return sum(one != other for one, other in pairwise(rises))

    def decided_after(self, step: float, rise: bool) -> float | None:  # noqa: FBT001 - the direction of the step
        """Return the seconds from a step to the first change in its direction."""
        found = (at for (_, before), (at, after) in pairwise(self.changes) if at >= step and (after > before) == rise)
        return next((at - step for at in found), None)

    def as_dict(self) -> dict[str, Any]:
        """Return it for the file of results."""
        return asdict(self) | {"turns": self.turns}


def replay(trace: Trace, policy: Policy) -> Outcome:
    """Replay a trace; the same calls come whatever the policy."""
    # Reproducible, and no secret.
    arrivals, fleet = Random(SEED), Fleet(FIRST, Random(SEED + 1))  # noqa: S311
    outcome = Outcome(changes=[(0.0, FIRST)])
    # Not in step with the load: a decision comes at any time after it.
    now, look, slice_end = 0.0, policy.period * 0.6, SLICE
    latencies: list[float] = []
    shed = 0
    while now < trace.seconds:
        upcoming = now + arrivals.expovariate(trace.rate(now))
        while look <= upcoming and look < trace.seconds:
            _look(trace, policy, fleet, outcome, look)
            look += policy.period
        while slice_end <= upcoming and slice_end <= trace.seconds:
            outcome.slices.append(
                Slice(slice_end, round(trace.rate(slice_end - SLICE / 2)), fleet.replicas, _p99(latencies), shed)
            )
            latencies, shed, slice_end = [], 0, slice_end + SLICE
        outcome.pod_seconds += fleet.replicas * (min(upcoming, trace.seconds) - now)
        now = upcoming
        if now < trace.seconds:
            latency = fleet.call(now)
            outcome.calls += 1
            outcome.late += latency is None or latency > LATENCY
            shed += latency is None
            latencies += [] if latency is None else [latency]
    return outcome


def _look(trace: Trace, policy: Policy, fleet: Fleet, outcome: Outcome, now: float) -> None:
    ready = fleet.ready(now)
    readings = {pod.uid: pod.reading(now) if trace.told(now) else None for pod in ready}
    wanted = max(LEAST, policy.decide(fleet.replicas, readings, now))
    if wanted != fleet.replicas:
        fleet.scale(wanted, now)
        outcome.changes.append((now, wanted))


def _p99(latencies: list[float]) -> float:
    return round(sorted(latencies)[len(latencies) * 99 // 100], 3) if latencies else 0.0
