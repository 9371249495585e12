"""Status: what a pass saw, as Kubernetes conditions. Computed afresh each time from live objects; nothing is latched.

Every judgement is a (reason, message) pair; the same pair stands in the condition, in the Event and in the tests.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from onceserve_contract.termination import FailureReason
from onceserve_operator import quantities
from onceserve_operator.api.v1alpha1 import Condition, ConditionStatus, ModelDeploymentSpec
from onceserve_operator.domain import NOBODY, Event, Observed, Problem, Scaling, Step, Traffic, gravest
from onceserve_operator.rollout.phases import Phase

READY = "Ready"
AVAILABLE = "Available"
PROGRESSING = "Progressing"
MODEL_LOADED = "ModelLoaded"
STORE_READY = "IdempotencyStoreReady"
ROUTE_ACCEPTED = "RouteAccepted"
SCALING_ACTIVE = "ScalingActive"
SPEC_ACCEPTED = "SpecAccepted"
RECONCILING = "Reconciling"
STALLED = "Stalled"

ACCEPTED = "Accepted"
INVALID = "Invalid"
UNKNOWN_FIELDS = "UnknownFields"
SERVING = "Serving"
SCALED_TO_ZERO = "ScaledToZero"
PODS_NOT_READY = "PodsNotReady"
STARTING = "Starting"
MOUNT_AWAITED = "SecretAwaited"
COMPLETE = "Complete"
LOADED = "Loaded"
LOADING = "Loading"
STORE_NOT_REFUSED = "NotRefused"
NO_PROBLEM = "NoProblem"
GATEWAY_NOT_INSTALLED = "GatewayNotInstalled"

TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN


@dataclass(frozen=True, slots=True)
class Finding:
    """What holds of one aspect, and why."""

    type: str
    status: ConditionStatus
    reason: str
    message: str


def _status(holds: bool) -> ConditionStatus:  # noqa: FBT001 - the status itself
    return TRUE if holds else FALSE


def judge(
    observed: Observed,
    spec: ModelDeploymentSpec,
    step: Step,
    refusals: tuple[Problem, ...] = (),
    unknown_fields: tuple[str, ...] = (),
    *,
    scaling: Scaling | None = None,
) -> tuple[Finding, ...]:
    """Return the findings about a spec that could be read.

    `refusals` are writes that the API server did not take; `scaling` is what autoscaling makes of the load.
    """
    problem = gravest(refusals) or _target_problem(observed, spec, step)
    return (
        _accepted(unknown_fields),
        _model_loaded(observed, spec, step),
        *_store_ready(observed, spec, step),
        *_route_accepted(observed, spec),
        *_scaling_active(spec, scaling),
        _available(observed, spec),
        *_movement(observed, spec, step, problem),
        _ready(observed, spec, step, problem, refused=bool(refusals)),
    )


def reject(observed: Observed, message: str) -> tuple[Finding, ...]:
    """Return the findings about a spec that cannot be read; what runs is left as it is."""
    invalid = (INVALID, message)
    return (
        Finding(SPEC_ACCEPTED, FALSE, *invalid),
        *(finding for field, finding in _UNREAD.items() if field in observed.spec),
        _answering(observed),
        Finding(STALLED, TRUE, *invalid),
        Finding(RECONCILING, FALSE, *invalid),
        Finding(PROGRESSING, FALSE, *invalid),
        Finding(READY, FALSE, *invalid),
    )


_NOT_JUDGED = "This is not judged while the spec is invalid"
_UNREAD = {
    "model": Finding(MODEL_LOADED, UNKNOWN, INVALID, _NOT_JUDGED),
    "idempotency": Finding(STORE_READY, UNKNOWN, INVALID, _NOT_JUDGED),
    "gateway": Finding(ROUTE_ACCEPTED, UNKNOWN, INVALID, _NOT_JUDGED),
    "autoscaling": Finding(SCALING_ACTIVE, FALSE, INVALID, "Autoscaling has stopped until the spec is valid"),
}
"""What holds of the aspect that a field asks for, by this field, while the spec cannot be read."""


def _answering(observed: Observed) -> Finding:
    """Return what pods tell of availability; how many of them must answer, only a valid spec does."""
    traffic, ready = observed.traffic or NOBODY, observed.serving_pods
    if traffic == NOBODY:
        return _UNFIT
    wanted = sum(number for revision, number in observed.replicas.items() if traffic.reaches(revision))
    if not wanted:
        return _UNWANTED
    message = f"{ready} of {wanted} pods answer"
    if ready >= wanted:
        return Finding(AVAILABLE, TRUE, SERVING, message)
    if not ready:
        return Finding(AVAILABLE, FALSE, PODS_NOT_READY, message)
    return Finding(AVAILABLE, UNKNOWN, INVALID, f"{message}; how many must is not known while the spec is invalid")


def _accepted(unknown_fields: tuple[str, ...]) -> Finding:
    if unknown_fields:
        message = f"This release does not know {', '.join(unknown_fields)}, and acts on all else"
        return Finding(SPEC_ACCEPTED, FALSE, UNKNOWN_FIELDS, message)
    return Finding(SPEC_ACCEPTED, TRUE, ACCEPTED, "The spec is valid")


def _pod_problems(observed: Observed, spec: ModelDeploymentSpec, step: Step) -> tuple[Problem, ...]:
    problems = (pod.problem for pod in observed.pods if pod.revision == step.target.name)
    return tuple(_naming(problem, spec.model.uri) for problem in problems if problem)


def _target_problem(observed: Observed, spec: ModelDeploymentSpec, step: Step) -> Problem | None:
    """Return what is in the way of the wanted revision: a pod knows the cause, its Deployment only that time is up."""
    refused = next((each for each in step.rollout.refused if each.revision == step.target.name), None)
    if refused:
        return Problem(refused.reason, refused.message, permanent=True)
    cause = gravest(_pod_problems(observed, spec, step))
    deployment = observed.deployment_problems.get(step.target.name)
    if cause is None or deployment is None:
        return cause or deployment
    return replace(cause, permanent=cause.permanent or deployment.permanent)


def _naming(problem: Problem, uri: str) -> Problem:
    """Return the problem with the model's URI in it, less its query, which may be a signature."""
    shown = uri.partition("?")[0]
    if not problem.about_model or shown in problem.message:
        return problem
    return replace(problem, message=f"{shown}: {problem.message}")


def _model_loaded(observed: Observed, spec: ModelDeploymentSpec, step: Step) -> Finding:
    target = step.target
    failed = gravest(tuple(each for each in _pod_problems(observed, spec, step) if each.about_model))
    if failed:
        return Finding(MODEL_LOADED, FALSE, failed.reason, failed.message)
    if ready := observed.ready_pods(target.name):
        return Finding(MODEL_LOADED, TRUE, LOADED, f"{ready} pods of {target.name} have loaded {spec.model.uri}")
    if spec.replicas == 0:
        return Finding(MODEL_LOADED, UNKNOWN, SCALED_TO_ZERO, "No pod is wanted")
    return Finding(MODEL_LOADED, UNKNOWN, LOADING, f"No pod of {target.name} has loaded {spec.model.uri} yet")


def _store_ready(observed: Observed, spec: ModelDeploymentSpec, step: Step) -> tuple[Finding, ...]:
    """Return what pods found of their store when they started; what they find later they tell their callers alone."""
    if spec.idempotency is None or spec.idempotency.store is None:
        return ()
    target, problems = step.target.name, _pod_problems(observed, spec, step)
    refused = next((each for each in problems if each.reason == FailureReason.STORE_REFUSED), None)
    if refused:
        return (Finding(STORE_READY, FALSE, refused.reason, refused.message),)
    if ready := observed.ready_pods(target):
        return (Finding(STORE_READY, TRUE, STORE_NOT_REFUSED, f"{ready} pods of {target} run and refused no store"),)
    if spec.replicas == 0:
        return (Finding(STORE_READY, UNKNOWN, SCALED_TO_ZERO, "No pod is wanted"),)
    return (Finding(STORE_READY, UNKNOWN, STARTING, f"No pod of {target} has started with its store yet"),)


def _route_accepted(observed: Observed, spec: ModelDeploymentSpec) -> tuple[Finding, ...]:
    """Return what the Gateway makes of our route; the Service answers in any case."""
    if spec.gateway is None:
        return ()
    route = observed.route
    if route is None:
        message = "The cluster has no Gateway API; the model is called by its Service, and a canary is split by pods"
        return (Finding(ROUTE_ACCEPTED, FALSE, GATEWAY_NOT_INSTALLED, message),)
    status = UNKNOWN if route.accepted is None else _status(route.accepted)
    return (Finding(ROUTE_ACCEPTED, status, route.reason, route.message),)


def _scaling_active(spec: ModelDeploymentSpec, scaling: Scaling | None) -> tuple[Finding, ...]:
    """Return whether the number of pods follows the load."""
    if spec.autoscaling is None:
        return ()
    if spec.replicas == 0:
        message = "Somebody has scaled to 0: autoscaling goes on when somebody scales to 1 or more"
        return (Finding(SCALING_ACTIVE, FALSE, SCALED_TO_ZERO, message),)
    if scaling is None:
        return (Finding(SCALING_ACTIVE, UNKNOWN, STARTING, "Nobody has looked at the load yet"),)
    status = UNKNOWN if scaling.active is None else _status(scaling.active)
    return (Finding(SCALING_ACTIVE, status, scaling.reason, scaling.message),)


def floor(replicas: int, max_unavailable: int | str) -> int:
    """Return how many pods must answer for a model to count as available: never less than one."""
    return max(1, replicas - quantities.share(replicas, max_unavailable))


_UNWANTED = Finding(AVAILABLE, FALSE, SCALED_TO_ZERO, "No pod is wanted")
_UNFIT = Finding(AVAILABLE, FALSE, STARTING, "No pod has been found fit for traffic yet")


def _available(observed: Observed, spec: ModelDeploymentSpec) -> Finding:
    if spec.replicas == 0:
        return _UNWANTED
    if observed.traffic in {None, NOBODY}:
        return _UNFIT
    ready = observed.serving_pods
    least = floor(spec.replicas, spec.availability.max_unavailable)
    message = f"{ready} pods answer, {spec.replicas} are wanted; at least {least} must"
    enough = ready >= least
    return Finding(AVAILABLE, _status(enough), SERVING if enough else PODS_NOT_READY, message)


def _complete(observed: Observed, spec: ModelDeploymentSpec, step: Step) -> bool:
    settled = step.phase == Phase.STABLE and _serves_target(observed, step)
    return settled and observed.ready_pods(step.target.name) >= spec.replicas


def _serves_target(observed: Observed, step: Step) -> bool:
    if step.traffic == NOBODY and step.moving is None:
        return not step.rollout.refused
    return observed.traffic == Traffic(step.target.name) == step.traffic


def _movement(
    observed: Observed, spec: ModelDeploymentSpec, step: Step, problem: Problem | None
) -> tuple[Finding, Finding, Finding]:
    """Return Progressing and, for tools that follow kstatus, Reconciling and Stalled."""
    if problem and problem.permanent:
        moving, reason, message = False, problem.reason, problem.message
    elif _complete(observed, spec, step):
        moving, reason, message = False, COMPLETE, step.message
    else:
        moving, reason, message = True, *_awaited(observed, spec, step, problem)
    stalled = problem is not None and problem.permanent
    return (
        Finding(PROGRESSING, _status(moving), reason, message),
        Finding(RECONCILING, _status(moving), reason, message),
        Finding(
            STALLED,
            _status(stalled),
            reason if stalled else NO_PROBLEM,
            message if stalled else "Nothing is in the way",
        ),
    )


def _awaited(observed: Observed, spec: ModelDeploymentSpec, step: Step, problem: Problem | None) -> tuple[str, str]:
    if problem:
        return problem.reason, problem.message
    if step.moving and step.stable:
        return step.phase, step.message
    ready = observed.ready_pods(step.target.name)
    return STARTING, f"{ready} of {spec.replicas} pods of {step.target.name} are ready"


def _ready(
    observed: Observed, spec: ModelDeploymentSpec, step: Step, problem: Problem | None, *, refused: bool
) -> Finding:
    available = _available(observed, spec)
    routed = _serves_target(observed, step)
    if spec.replicas == 0 and routed and not refused:
        return Finding(READY, TRUE, SCALED_TO_ZERO, "No pod is wanted, and none answers")
    if available.status is TRUE and routed and not refused:
        ready = observed.ready_pods(step.target.name)
        return Finding(READY, TRUE, SERVING, f"{ready} of {spec.replicas} pods of {step.target.name} answer")
    if problem:
        serves = _serves_meanwhile(step) if available.status is TRUE else ""
        return Finding(READY, FALSE, problem.reason, problem.message + serves)
    if routed:
        return Finding(READY, FALSE, available.reason, available.message)
    return Finding(READY, FALSE, step.phase if step.stable else STARTING, step.message)


def _serves_meanwhile(step: Step) -> str:
    if step.stable is None:
        return ""
    if step.moving and step.stable == step.target:
        return f" ({step.stable.name} serves until {step.moving.name} does)"
    return f" ({step.stable.name} goes on serving)"


_LONGEST = 32_768
"""Characters that the message of a condition may have: a spec may be wrong in a thousand places."""


def stamped(
    findings: tuple[Finding, ...], previous: Iterable[Condition], generation: int, now: datetime
) -> list[Condition]:
    """Return findings as conditions; the time of a status that has not changed is kept."""
    since = {condition.type: condition for condition in previous}
    return [_stamp(finding, since.get(finding.type), generation, now) for finding in findings]


def _stamp(finding: Finding, before: Condition | None, generation: int, now: datetime) -> Condition:
    unchanged = before is not None and before.status == finding.status
    return Condition(
        type=finding.type,
        status=finding.status,
        reason=finding.reason,
        message=finding.message[:_LONGEST],
        last_transition_time=before.last_transition_time if before and unchanged else quantities.timestamp(now),
        observed_generation=generation,
    )


_TOLD = (SPEC_ACCEPTED, MODEL_LOADED, STORE_READY, ROUTE_ACCEPTED, READY)
_EXPECTED = {STARTING, SCALED_TO_ZERO, PODS_NOT_READY, MOUNT_AWAITED}
# The rollout tells of its phases itself.
_TOLD_ELSEWHERE = set(Phase)


def events(findings: Iterable[Finding], previous: Iterable[Condition]) -> tuple[Event, ...]:
    """Return what has changed and is worth an Event: a condition's status, or the reason for it being False."""
    before = {condition.type: condition for condition in previous}
    changed = (each for each in findings if each.type in _TOLD and _is_news(each, before.get(each.type)))
    # Two conditions often fall for one reason; one Event tells it.
    told = {finding.reason: finding for finding in changed}
    return tuple(Event(each.reason, each.message, _is_warning(each, before.get(each.type))) for each in told.values())


def _is_news(finding: Finding, before: Condition | None) -> bool:
    known = before is not None and (before.status, before.reason) == (finding.status, finding.reason)
    return finding.status is not UNKNOWN and not known and finding.reason not in _TOLD_ELSEWHERE


def _is_warning(finding: Finding, before: Condition | None) -> bool:
    lost = before is not None and before.status is TRUE and finding.reason == PODS_NOT_READY
    return finding.status is FALSE and (lost or finding.reason not in _EXPECTED)
