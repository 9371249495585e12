"""The policy, driven by loads that a test gives."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from onceserve_operator.api.autoscaling import Autoscaling, ScalingMetric
from onceserve_operator.autoscaling import policy
from onceserve_operator.autoscaling.load import Reading
from onceserve_operator.autoscaling.policy import Memory, Situation
from onceserve_operator.domain import Scaling

TARGET = 8.0


def asked(metric: str = "Concurrency", target: str = "8", least: int = 1, most: int = 100) -> Autoscaling:
    return Autoscaling(min_replicas=least, max_replicas=most, metric=ScalingMetric(metric), target=target)


@dataclass
class Driven:
    """A model whose pods are ready at once, and whose load is spread evenly."""

    replicas: int = 3
    autoscaling: Autoscaling = field(default_factory=asked)
    now: float = 1000.0
    memory: Memory = field(default_factory=Memory)
    revisions: frozenset[str] = frozenset({"r"})
    taken: list[int] = field(default_factory=list)

    def look(self, total: float, *, silent: int = 0, ready: int | None = None, obey: bool = True) -> Scaling:
        """Look once at pods that have this many requests in all; some of them are silent."""
        pods = self.replicas if ready is None else ready
        readings = {f"pod-{each}": Reading(total / pods) if each >= silent else None for each in range(pods)}
        return self.see(readings, obey=obey)

    def see(self, readings: dict[str, Reading | None], *, obey: bool = True) -> Scaling:
        """Look once at these pods."""
        situation = Situation(self.autoscaling, self.replicas, readings, self.revisions)
        self.memory, scaling = policy.decide(self.memory, situation, self.now)
        self.taken.append(scaling.replicas)
        self.now += policy.PERIOD
        if obey:
            self.replicas = scaling.replicas
        return scaling

    def hold(self, total: float, seconds: float) -> Scaling:
        """Look again and again while the load stays."""
        for _ in range(math.ceil(seconds / policy.PERIOD)):
            scaling = self.look(total)
        return scaling


def turns(numbers: Iterable[int]) -> int:
    """Return how often a number has changed its direction."""
    known = list(numbers)
    moves = [after > before for before, after in pairwise(known) if after != before]
    return sum(one != other for one, other in pairwise(moves))
