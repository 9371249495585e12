"""What is wanted to be known of a ModelDeployment's pods."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from onceserve_operator.api.rollout import Verification
from onceserve_operator.domain import Key, Pod


@dataclass(frozen=True, slots=True)
class Shift:
    """Pods that are measured while traffic shifts from one revision to another."""

    target: tuple[Pod, ...]
    stable: tuple[Pod, ...]
    stable_revision: str
    stable_scheme: str
    """How the pods of the stable revision are called: `http` or `https`."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be found out, of whom."""

    revision: str
    """The target: whose pods are verified."""
    scheme: str
    """How its pods are called: `http` or `https`."""
    sha256: str | None
    """Digest that its model must have, where one is asked for."""
    verification: Verification
    pods: tuple[Pod, ...] = ()
    """Those to verify."""
    shift: Shift | None = None
    """None while no traffic shifts."""

    @property
    def question(self) -> str:
        """A digest of what pods are asked and must answer: a verdict on another question is none."""
        requests = [request.model_dump(mode="json") for request in self.verification.requests]
        return hashlib.sha256(json.dumps([self.revision, self.sha256, requests]).encode()).hexdigest()

    @property
    def measured_between(self) -> tuple[str, str] | None:
        """The revisions that are measured and compared with; None where nothing is to be measured."""
        if self.shift is None or not (self.verification.metrics or self.verification.prometheus):
            return None
        return self.revision, self.shift.stable_revision


def variables(key: Key, wanted: Wanted) -> Mapping[str, str]:
    """Return what stands for the variables of queries."""
    stable = wanted.shift.stable_revision if wanted.shift else ""
    return {"namespace": key.namespace, "name": key.name, "revision": wanted.revision, "stable": stable}
