"""The values that the pure parts exchange."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

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
    revisions: tuple[Revision, ...] = ()
    """Newest first."""
    pods: tuple[Pod, ...] = ()
    routed_revision: str | None = None
    """Revision that the Service sends traffic to now."""
    deployment_problems: dict[str, Problem] = field(default_factory=dict)
    """By revision: why its Deployment makes no progress."""

    def ready_pods(self, revision: str) -> int:
        """Return how many pods of a revision answer."""
        return sum(pod.ready for pod in self.pods if pod.revision == revision)


@dataclass(frozen=True, slots=True)
class Step:
    """What a pass does about revisions and traffic, and why."""

    target: Revision
    """The revision that the spec asks for."""
    stable: Revision
    """The revision that gets traffic."""
    replicas: dict[str, int]
    """Wanted pods by revision; a revision that is not named has none."""
    phase: str
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a pass wants to be true."""

    children: tuple[Manifest, ...]
    """Every object that should exist, in the order of writing; what else belongs to the resource is deleted."""
    step: Step


@dataclass(frozen=True, slots=True)
class Event:
    """Something worth telling a person who runs `kubectl describe`."""

    reason: str
    message: str
    warning: bool = False
