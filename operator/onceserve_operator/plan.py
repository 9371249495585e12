"""The only join of the pure parts: from what is observed to what should be."""

from pydantic import ValidationError

from onceserve_operator import rollout
from onceserve_operator.api.v1alpha1 import ModelDeploymentSpec
from onceserve_operator.domain import Observed, Plan, Revision, Step
from onceserve_operator.errors import InvalidSpecError
from onceserve_operator.resources import desired, revision


def read(observed: Observed) -> ModelDeploymentSpec:
    """Return the spec as types.

    Raises InvalidSpecError naming each field, for an object that an API server with another CRD let in.
    """
    try:
        return ModelDeploymentSpec.model_validate(observed.spec)
    except ValidationError as error:
        faults = ("spec." + ".".join(map(str, fault["loc"])) + ": " + fault["msg"] for fault in error.errors())
        raise InvalidSpecError("; ".join(faults)) from None


def make(observed: Observed, spec: ModelDeploymentSpec, default_image: str) -> Plan:
    """Return what a pass wants to be true."""
    target = _target(observed, spec, default_image)
    step = rollout.advance(observed, target, spec.replicas)
    kept = _kept(observed, step, spec.rollout.revision_history_limit)
    return Plan(desired.children(observed, spec, kept, step), step)


def _target(observed: Observed, spec: ModelDeploymentSpec, default_image: str) -> Revision:
    number = max((each.number for each in observed.revisions), default=0) + 1
    wanted = revision.build(observed.key, spec, number=number, default_image=default_image)
    return next((each for each in observed.revisions if each.name == wanted.name), wanted)


def _kept(observed: Observed, step: Step, history: int) -> tuple[Revision, ...]:
    needed = {revision.name: revision for revision in (step.target, step.stable)}
    former = [each for each in observed.revisions if each.name not in needed]
    return (*needed.values(), *former[:history])
