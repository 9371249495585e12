"""The status of a ModelDeployment, as one value that is written only when it has changed."""

from collections.abc import Iterable
from datetime import datetime

from pydantic import TypeAdapter, ValidationError

from onceserve_operator import conditions, quantities
from onceserve_operator.api.v1alpha1 import Condition, ModelDeploymentStatus, RevisionStatus
from onceserve_operator.conditions import Finding
from onceserve_operator.domain import Manifest, Observed, Revision, Step
from onceserve_operator.resources import labels, names

_CONDITIONS = TypeAdapter(list[Condition])
_STANDING = {"selector", "url", "stableRevision", "targetRevision", "rollout"}
"""Fields that a rollout goes on from, and what it has led to."""


def previous_conditions(observed: Observed) -> list[Condition]:
    """Return the conditions as last written; none where another release left what this one cannot read."""
    try:
        return _CONDITIONS.validate_python(observed.status.get("conditions", []))
    except ValidationError:
        return []


def of_step(observed: Observed, step: Step, findings: tuple[Finding, ...], now: datetime) -> Manifest:
    """Return the status after a pass over an accepted spec."""
    revisions = _revisions(observed, step)
    return _dump(
        ModelDeploymentStatus(
            observed_generation=observed.generation,
            replicas=len(observed.pods),
            ready_replicas=observed.serving_pods,
            selector=",".join(f"{name}={value}" for name, value in labels.of_all(observed.key).items()),
            url=names.url(observed.key, step.front.scheme),
            stable_revision=step.stable.name if step.stable else None,
            target_revision=step.target.name,
            rollout=step.rollout,
            revisions=[_revision(observed, each, now) for each in revisions],
            conditions=_stamped(observed, findings, now),
        )
    )


def of_rejection(observed: Observed, findings: tuple[Finding, ...], now: datetime) -> Manifest:
    """Return the status for a spec that cannot be read: where the rollout stood stays, all else is as observed."""
    kept = {field: value for field, value in observed.status.items() if field in _STANDING}
    seen = ModelDeploymentStatus(
        observed_generation=observed.generation,
        replicas=len(observed.pods),
        ready_replicas=observed.serving_pods,
        revisions=[_revision(observed, each, now) for each in observed.revisions],
        conditions=_stamped(observed, findings, now),
    )
    return {**kept, **_dump(seen)}


def _stamped(observed: Observed, findings: tuple[Finding, ...], now: datetime) -> list[Condition]:
    return conditions.stamped(findings, previous_conditions(observed), observed.generation, now)


def _revisions(observed: Observed, step: Step) -> Iterable[Revision]:
    """Return what is stored and the revision that this pass adds, newest first."""
    known = {revision.name: revision for revision in (step.target, *observed.revisions)}
    return sorted(known.values(), key=lambda revision: revision.number, reverse=True)


def _revision(observed: Observed, revision: Revision, now: datetime) -> RevisionStatus:
    return RevisionStatus(
        name=revision.name,
        replicas=sum(pod.revision == revision.name for pod in observed.pods),
        ready=observed.ready_pods(revision.name),
        sha256=revision.sha256,
        image=revision.image,
        created_at=quantities.timestamp(revision.created_at or now),
    )


def _dump(status: ModelDeploymentStatus) -> Manifest:
    # An explicit empty list would differ from an absent one at every comparison.
    return status.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
