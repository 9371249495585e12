"""The only join of the pure parts: from what is observed to what should be."""

import copy
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from onceserve_operator import rollout
from onceserve_operator.api.v1alpha1 import ModelDeploymentSpec
from onceserve_operator.domain import Manifest, Observed, Plan, Revision, Step
from onceserve_operator.errors import InvalidSpecError
from onceserve_operator.resources import desired, revision

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


def make(observed: Observed, spec: ModelDeploymentSpec, default_image: str) -> Plan:
    """Return what a pass wants to be true."""
    target = _target(observed, spec, default_image)
    step = rollout.advance(observed, target, spec.replicas)
    kept = _kept(observed, step, spec.rollout.revision_history_limit)
    return Plan(desired.children(observed, spec, kept, step), step)


def _target(observed: Observed, spec: ModelDeploymentSpec, default_image: str) -> Revision:
    newest = max((each.number for each in observed.revisions), default=0)
    wanted = revision.build(observed.key, spec, number=newest + 1, default_image=default_image)
    stored = next((each for each in observed.revisions if each.name == wanted.name), wanted)
    # Going back makes a former revision the newest, so that history keeps what served last.
    return stored if stored.number == newest else replace(stored, number=newest + 1)


def _kept(observed: Observed, step: Step, history: int) -> tuple[Revision, ...]:
    needed = [each for each in observed.revisions if each.name in step.replicas and each.name != step.target.name]
    former = [each for each in observed.revisions if each.name not in step.replicas]
    return (step.target, *needed, *former[:history])
