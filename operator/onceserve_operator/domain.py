"""The values that the pure parts exchange."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from onceserve_operator.api.rollout import RolloutStatus

Manifest = dict[str, Any]
"""A Kubernetes object, or a part of one, as plain data."""


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Which ModelDeployment is meant."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Problem:
    """What keeps something from being as it is wanted: a reason for machines, a message for people."""

    reason: str
    message: str
    permanent: bool = False
    """It will not pass without a change of the spec or of the world outside the cluster."""
    about_model: bool = False
    """The model itself could not be loaded."""


def gravest(problems: Iterable[Problem]) -> Problem | None:
    """Return the problem that a person should hear of first."""
    return min(problems, key=lambda problem: (not problem.permanent, not problem.about_model), default=None)


@dataclass(frozen=True, slots=True)
class Revision:
    """What pods of one kind look like; never changed once made, so that an upgrade of the operator restarts nothing."""

    name: str
    number: int
    """1 for the first; a later revision has a higher number."""
    template: Manifest
    """The pod template: metadata.labels and spec."""
    created_at: datetime | None = None
    """None until the API server has stored it."""
    sha256: str | None = None
    """Digest that the model must have, where the spec gave one."""

    @property
    def image(self) -> str:
        """The server's image."""
        image: str = self.template["spec"]["containers"][0]["image"]
        return image

    @property
    def scheme(self) -> str:
        """How its pods are to be called, as their probes do: `http` or `https`."""
        probe = self.template["spec"]["containers"][0]["readinessProbe"]["httpGet"]
        return str(probe.get("scheme", "HTTP")).lower()


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as far as decisions need it."""

    name: str
    revision: str
    ready: bool
    leaving: bool
    """It is being deleted."""
    problem: Problem | None = None
    uid: str = ""
    address: str = ""
    """Its IP address; empty until it has one."""
    gone_by: datetime | None = None
    """When it has been killed at the latest, where it is leaving."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Whom the Service sends requests to: the pods of one revision, those of all, or nobody."""

    revision: str | None = None
    shared: bool = False

    def reaches(self, revision: str) -> bool:
        """Say whether ready pods of a revision get requests."""
        return self.shared or self.revision == revision


NOBODY = Traffic()
EVERYBODY = Traffic(shared=True)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a pod showed when it was verified."""

    sha256: str
    """Digest of the model that it has loaded."""
    problem: Problem | None = None
    """Why it must not get traffic."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the pods of a revision measured while it got traffic."""

    message: str
    problem: Problem | None = None
    """The bound that it does not hold."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What pods themselves told, as far as it is known by now."""

    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    """By the pod's uid."""
    unanswered: Mapping[str, str] = field(default_factory=dict)
    """By the pod's uid: why it could not be verified yet."""
    measured: Measured | None = None
    since: datetime | None = None
    """When this process began to look on."""


@dataclass(frozen=True, slots=True)
class Route:
    """The HTTPRoute by which a Gateway calls the model, and what the Gateway's controller says of it."""

    weight: int = 0
    """Percentage that it gives the preview Service."""
    accepted: bool | None = None
    """None: nobody has said."""
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Scaling:
    """What autoscaling makes of the load."""

    active: bool | None
    """It can act; None: nobody has said."""
    reason: str
    message: str
    of: int = 0
    """Replicas that there were when this was decided."""
    replicas: int = 0
    """Replicas that there should be."""
    cause: str = ""
    """What asks for these, in words."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something worth telling a person who runs `kubectl describe`."""

    reason: str
    message: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """One ModelDeployment and everything that belongs to it, at one moment."""

    key: Key
    uid: str
    generation: int
    spec: Manifest
    """As stored; not yet read into types, since an object of another release may not fit them."""
    status: Manifest
    """As last written."""
    version: str = ""
    """Of the resource, as last known: what is written on its ground is refused where it has changed."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    revisions: tuple[Revision, ...] = ()
    """Newest first."""
    pods: tuple[Pod, ...] = ()
    replicas: Mapping[str, int] = field(default_factory=dict)
    """By revision: pods that its Deployment asks for."""
    traffic: Traffic | None = None
    """Whom the Service sends requests to; None where there is no Service."""
    route: Route | None = None
    """None where the cluster does not have the Gateway API."""
    previewed: str | None = None
    """Revision that the preview Service reaches; None where there is none, or somebody else's."""
    autoscaler: Scaling | None = None
    """None where there is no HorizontalPodAutoscaler of ours."""
    deployment_problems: Mapping[str, Problem] = field(default_factory=dict)
    """By revision: why its Deployment makes no progress."""
    seen: Seen = field(default_factory=Seen)

    def ready_pods(self, revision: str) -> int:
        """Return how many pods of a revision answer."""
        return sum(pod.ready for pod in self.pods if pod.revision == revision)

    @property
    def serving_pods(self) -> int:
        """Pods that answer what the Service sends."""
        traffic = self.traffic or NOBODY
        return sum(pod.ready for pod in self.pods if traffic.reaches(pod.revision))


@dataclass(frozen=True, slots=True)
class Step:
    """What a pass does about revisions and traffic, and why."""

    target: Revision
    """The revision that the spec asks for."""
    stable: Revision | None
    """The revision that has been found right and serves; None until one has."""
    moving: Revision | None
    """The revision that is on its way."""
    replicas: Mapping[str, int]
    """Wanted pods by revision; a revision that is not named has none."""
    traffic: Traffic
    rollout: RolloutStatus
    """Where it stands, in words too; the next pass goes on from it."""
    events: tuple[Event, ...] = ()
    due: float | None = None
    """Seconds until time itself changes something."""
    measures: bool = False
    """What pods measure is judged now."""
    routed_weight: int | None = None
    """Percentage that a Gateway sends to the revision on its way; None where none of its requests may reach it."""

    @property
    def phase(self) -> str:
        """Where the rollout stands, in one word."""
        return self.rollout.phase

    @property
    def message(self) -> str:
        """What is awaited, in words."""
        return self.rollout.message

    @property
    def front(self) -> Revision:
        """The revision whose protocol the Service speaks."""
        by_name = {each.name: each for each in (self.target, self.stable, self.moving) if each}
        return by_name.get(self.traffic.revision or "") or self.stable or self.moving or self.target


@dataclass(frozen=True, slots=True)
class Plan:
    """What a pass wants to be true."""

    children: tuple[Manifest, ...]
    """Every object that should exist, in the order of writing; what else belongs to the resource is deleted."""
    step: Step
