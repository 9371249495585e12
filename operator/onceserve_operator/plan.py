"""The only join of the pure parts: from what is observed to what should be."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from onceserve_contract import verification
from onceserve_operator.api.v1alpha1 import ModelDeploymentSpec
from onceserve_operator.domain import Manifest, Observed, Plan, Revision, Step
from onceserve_operator.errors import InvalidSpecError
from onceserve_operator.resources import desired, revision
from onceserve_operator.rollout.decision import decide

_UNKNOWN = "extra_forbidden"


def read(observed: Observed) -> tuple[ModelDeploymentSpec, tuple[str, ...]]:
    """Return the spec as types, and the fields of another release that this one does not know.

    Raises InvalidSpecError naming each field that is wrong, for an object that an API server with another CRD let in.
    """
    try:
        return ModelDeploymentSpec.model_validate(observed.spec), ()
    except ValidationError as error:
        faults = error.errors()
    wrong = [fault for fault in faults if fault["type"] != _UNKNOWN]
    if wrong:
        raise InvalidSpecError("; ".join(f"{_path(fault['loc'])}: {fault['msg']}" for fault in wrong))
    unknown = [fault["loc"] for fault in faults]
    return ModelDeploymentSpec.model_validate(_without(observed.spec, unknown)), tuple(map(_path, unknown))


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, ("spec", *location)))


def _without(spec: Manifest, locations: Iterable[tuple[int | str, ...]]) -> Manifest:
    known = copy.deepcopy(spec)
    for *parents, field in locations:
        holder: Any = known
        for parent in parents:
            holder = holder[parent]
        del holder[field]
    return known


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the operator adds to every new revision."""

    image: str
    """Image where the spec names none."""
    verification_secret: bytes
    """What the tokens are made of by which the operator verifies pods."""


def make(observed: Observed, spec: ModelDeploymentSpec, defaults: Defaults, now: datetime) -> Plan:
    """Return what a pass wants to be true."""
    target = _target(observed, spec, defaults)
    step = decide(observed, spec, target, now)
    kept = _kept(observed, step, spec.rollout.revision_history_limit)
    return Plan(desired.children(observed, spec, kept, step), step)


def _target(observed: Observed, spec: ModelDeploymentSpec, defaults: Defaults) -> Revision:
    newest = max((each.number for each in observed.revisions), default=0)
    name = revision.name(observed.key, spec)
    token = verification.token(defaults.verification_secret, observed.key.namespace, name)
    key = verification.key(token)
    wanted = revision.build(observed.key, spec, newest + 1, default_image=defaults.image, verification_key=key)
    stored = next((each for each in observed.revisions if each.name == wanted.name), wanted)
    # Going back makes a former revision the newest, so that history keeps what served last.
    return stored if stored.number == newest else replace(stored, number=newest + 1)


def _kept(observed: Observed, step: Step, history: int) -> tuple[Revision, ...]:
    running = {*step.replicas, *(each.name for each in (step.stable, step.moving) if each)}
    needed = [each for each in observed.revisions if each.name in running and each.name != step.target.name]
    former = [each for each in observed.revisions if each.name not in {*running, step.target.name}]
    return (step.target, *needed, *former[:history])
