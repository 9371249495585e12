"""The way in and out of the machine: what is observed becomes a situation, the state that comes out becomes a step."""

from datetime import datetime

from onceserve_operator import quantities
from onceserve_operator.api.rollout import BlueGreen, RollingUpdate, Rollout, Strategy
from onceserve_operator.api.v1alpha1 import ModelDeploymentSpec
from onceserve_operator.domain import Event, Observed, Pod, Problem, Revision, Step, gravest
from onceserve_operator.rollout import aims, judgement, machine, state, words
from onceserve_operator.rollout.commands import ANNOTATION
from onceserve_operator.rollout.phases import ACTIVE
from onceserve_operator.rollout.situation import PodSet, Situation
from onceserve_operator.rollout.state import State
from onceserve_operator.rollout.steps import of_strategy

COMMAND_REFUSED = "CommandRefused"
COMMANDED = "Commanded"
DIGESTS_DIFFER = "DigestMismatch"

_ROUTES_SETTLE = 10.0
"""Seconds in which a Gateway learns that a Service has other pods."""


def decide(observed: Observed, spec: ModelDeploymentSpec, target: Revision, now: datetime) -> Step:
    """Return what this pass does about revisions and traffic."""
    by_name = {target.name: target} | {each.name: each for each in observed.revisions}
    before = state.read(observed.status)
    situation = _situation(observed, spec, target, before, now)
    after, answer = machine.advance(before, situation)
    # A transition may change what the strategy is measured by.
    situation = _situation(observed, spec, target, after, now)
    routed_weight = _routed_weight(observed, after, situation)
    percent = words.percent(after, situation) if routed_weight is None else routed_weight
    message = words.of_state(after, situation)
    events = (_answered(answer.message, answer.heeded),) if answer else ()
    if (after.phase, after.step, after.revision) != (before.phase, before.step, before.revision):
        events = (*events, *words.of_change(before, after, message))
    moving = after.revision if after.phase in ACTIVE else None
    return Step(
        target=target,
        stable=by_name.get(after.stable or ""),
        moving=by_name.get(moving or ""),
        replicas=aims.safe_sizes(after, situation),
        traffic=aims.safe_traffic(after, situation),
        rollout=state.write(after, percent, message),
        events=events,
        due=words.due(after, situation),
        measures=judgement.measuring(after, situation),
        routed_weight=routed_weight,
    )


def _answered(message: str, heeded: bool) -> Event:  # noqa: FBT001 - of the answer
    return Event(COMMANDED if heeded else COMMAND_REFUSED, message, warning=not heeded)


def _situation(
    observed: Observed, spec: ModelDeploymentSpec, target: Revision, before: State, now: datetime
) -> Situation:
    rollout, replicas = spec.rollout, spec.replicas
    known = tuple(dict.fromkeys((target.name, *(each.name for each in observed.revisions))))
    surge, unavailable = _room(rollout, replicas)
    at_once = rollout.strategy is Strategy.BLUE_GREEN or not _mixes(observed, target, before)
    routed = not at_once and _has_route(observed, spec) and rollout.strategy is Strategy.CANARY
    blue_green = rollout.blue_green or BlueGreen()
    delay = blue_green.scale_down_delay if at_once else "0s"
    return Situation(
        now=now,
        wanted=target.name,
        known=known,
        replicas=replicas,
        surge=surge,
        unavailable=unavailable,
        available=max(1, replicas - quantities.share(replicas, spec.availability.max_unavailable)),
        steps=of_strategy(rollout),
        at_once=at_once,
        routed=routed,
        scale_down_delay=_ROUTES_SETTLE if routed else quantities.seconds(delay),
        deadline=quantities.seconds(rollout.progress_deadline),
        sets={name: _pods(observed, name, stable=before.stable) for name in _with_pods(observed)},
        traffic=observed.traffic,
        measured=observed.seen.measured,
        command=observed.annotations.get(ANNOTATION),
        routed_weight=observed.route.weight if observed.route and observed.previewed == before.revision else 0,
        seen_since=_past(observed.seen.since, now),
        drained_by=_drained_by(observed, before.revision, now),
    )


def _past(moment: datetime | None, now: datetime) -> datetime | None:
    """Return a moment, none where a clock that was set back has put it in the future."""
    return moment if moment and moment <= now else None


def _has_route(observed: Observed, spec: ModelDeploymentSpec) -> bool:
    return spec.gateway is not None and observed.route is not None


def _routed_weight(observed: Observed, after: State, situation: Situation) -> int | None:
    """Return the percentage that a Gateway is to send; nothing before the preview Service leads to the revision."""
    weight = aims.routed_weight(after, situation)
    return weight if weight is None or observed.previewed == after.revision else 0


def _room(rollout: Rollout, replicas: int) -> tuple[int, int]:
    """Return how many pods may be added and taken away."""
    if rollout.strategy is Strategy.BLUE_GREEN:
        return replicas, 0
    given = rollout.rolling_update or RollingUpdate()
    surge = quantities.share(replicas, given.max_surge)
    unavailable = min(replicas, quantities.whole_share(replicas, given.max_unavailable))
    # Two percentages of a few pods may both come to nothing.
    return (surge or 1, 0) if not unavailable else (surge, unavailable)


def _drained_by(observed: Observed, moving: str | None, now: datetime) -> datetime | None:
    ends = (pod.gone_by for pod in observed.pods if pod.revision != moving and pod.gone_by)
    return max((end for end in ends if end > now), default=None)


def _mixes(observed: Observed, target: Revision, before: State) -> bool:
    """Say whether one Service can send requests to both revisions: they speak the same protocol."""
    by_name = {target.name: target} | {each.name: each for each in observed.revisions}
    pair = (by_name.get(name or "") for name in (before.stable, before.revision))
    return len({each.scheme for each in pair if each}) < 2  # noqa: PLR2004 - one scheme, or none known


def _with_pods(observed: Observed) -> set[str]:
    return {name for name, number in observed.replicas.items() if number} | {
        pod.revision for pod in observed.pods if not pod.leaving
    }


def _pods(observed: Observed, revision: str, *, stable: str | None) -> PodSet:
    ours = [pod for pod in observed.pods if pod.revision == revision and not pod.leaving]
    ready = sum(pod.ready for pod in ours)
    return PodSet(
        desired=observed.replicas.get(revision, 0),
        pods=len(ours),
        ready=ready,
        # What serves has been found right before, by this process or a former one.
        verified=ready if revision == stable else sum(_is_verified(observed, pod) for pod in ours),
        unasked=0 if revision == stable else sum(_is_unasked(observed, pod) for pod in ours),
        failure=_failure(observed, ours),
        trouble=gravest(tuple(filter(None, (_trouble(observed, pod) for pod in ours))))
        or observed.deployment_problems.get(revision),
    )


def _is_verified(observed: Observed, pod: Pod) -> bool:
    verdict = observed.seen.verdicts.get(pod.uid)
    return pod.ready and verdict is not None and verdict.problem is None


def _is_unasked(observed: Observed, pod: Pod) -> bool:
    return pod.ready and pod.uid not in {*observed.seen.verdicts, *observed.seen.unanswered}


def _failure(observed: Observed, pods: list[Pod]) -> Problem | None:
    verdicts = [observed.seen.verdicts[pod.uid] for pod in pods if pod.uid in observed.seen.verdicts]
    digests = sorted({verdict.sha256 for verdict in verdicts})
    if len(digests) > 1:
        words = f"pods of one revision have loaded different models: sha256 {' and '.join(digests)}"
        return Problem(DIGESTS_DIFFER, words, permanent=True, about_model=True)
    return next((verdict.problem for verdict in verdicts if verdict.problem), None)


def _trouble(observed: Observed, pod: Pod) -> Problem | None:
    unanswered = observed.seen.unanswered.get(pod.uid) if pod.ready else None
    return Problem("VerificationUnanswered", unanswered) if unanswered else pod.problem
