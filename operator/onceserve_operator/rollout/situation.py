"""What the machine decides on: numbers and facts about revisions, without anything of Kubernetes."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from onceserve_operator.domain import Measured, Problem, Traffic
from onceserve_operator.rollout.steps import ALL, Step


@dataclass(frozen=True, slots=True)
class PodSet:
    """The pods of one revision; those that are being deleted do not count."""

    desired: int = 0
    """As its Deployment asks for."""
    pods: int = 0
    ready: int = 0
    verified: int = 0
    """Ready, and found to be right."""
    unasked: int = 0
    """Ready, and nobody has tried yet to find out."""
    failure: Problem | None = None
    """Why it must not get traffic."""
    trouble: Problem | None = None
    """Why pods are not ready, or not verified yet."""

    @property
    def present(self) -> int:
        """Pods that exist or are about to."""
        return max(self.desired, self.pods)

    @property
    def lasting(self) -> int:
        """Right pods that stay: the Deployment takes away those beyond its number, unready ones first."""
        return min(self.verified, self.desired)


EMPTY: Final = PodSet()


@dataclass(frozen=True, slots=True)
class Situation:
    """The world at one moment, and what the spec asks for."""

    now: datetime
    wanted: str
    """Revision that the spec asks for."""
    known: tuple[str, ...]
    """Revisions that can be run, newest first; the wanted one is among them."""
    replicas: int
    surge: int
    """Pods that may exist beyond replicas."""
    unavailable: int
    """Pods that may be missing."""
    available: int
    """Ready pods with which the model counts as available."""
    steps: tuple[Step, ...]
    at_once: bool
    """All traffic is switched at once, between two sets of full size."""
    routed: bool
    """A Gateway splits traffic by weight, between two sets of which the old one stays at full size."""
    scale_down_delay: float
    """Seconds that old pods stay after the last step."""
    deadline: float
    """Seconds that a rollout may make no progress."""
    sets: Mapping[str, PodSet]
    """By revision; one that is not named has no pods."""
    traffic: Traffic | None
    """Whom the Service sends requests to; None where there is no Service."""
    measured: Measured | None = None
    command: str | None = None
    """Value of the annotation by which people command."""
    routed_weight: int = 0
    """Percentage that the route of a Gateway gives the revision on its way."""
    seen_since: datetime | None = None
    """When this process began to look on."""
    drained_by: datetime | None = None
    """When leaving pods of other revisions, which still answer who is connected to them, are gone at the latest."""

    def set_of(self, revision: str | None) -> PodSet:
        """Return the pods of a revision."""
        return self.sets.get(revision or "", EMPTY)

    @property
    def floor(self) -> int:
        """Ready pods that must get traffic whatever happens."""
        return max(0, self.replicas - self.unavailable)

    @property
    def whole(self) -> bool:
        """Whether the old set stays at full size beside the new one."""
        return self.at_once or self.routed

    @property
    def ceiling(self) -> int:
        """Pods that may exist."""
        return self.replicas + (self.replicas if self.whole else self.surge)

    def missing(self, revision: str | None) -> int:
        """Return the ready pods that a revision lacks to be enough by itself."""
        pods = self.set_of(revision)
        return max(0, self.floor - min(pods.ready, pods.desired))

    def share_of(self, revision: str | None) -> int:
        """Return the percentage of requests that a revision on its way gets."""
        if self.routed:
            return self.routed_weight
        served, reaches = self.reached(self.traffic), self.traffic is not None and self.traffic.reaches(revision or "")
        return round(ALL * self.set_of(revision).ready / served) if served and reaches else 0

    def reached(self, traffic: Traffic | None) -> int:
        """Return the ready pods that such traffic reaches."""
        return sum(self.sets[revision].ready for revision in self.serving(traffic))

    def serving(self, traffic: Traffic | None) -> list[str]:
        """Return the revisions whose ready pods such traffic reaches."""
        if traffic is None:
            return []
        return [revision for revision, pods in self.sets.items() if pods.ready and traffic.reaches(revision)]
