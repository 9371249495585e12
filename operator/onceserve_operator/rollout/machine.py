"""The machine: from what was remembered and what is seen to what is remembered next.

One transition a pass at most. It decides nothing of pods and traffic: `intents` derives those from the state that comes
out, bounded by what is seen, so that a pass may be lost or done twice anywhere.
"""

from dataclasses import replace

from onceserve_operator.domain import Problem, Traffic
from onceserve_operator.rollout import aims, orders, split
from onceserve_operator.rollout.orders import Answer
from onceserve_operator.rollout.phases import ACTIVE, Phase
from onceserve_operator.rollout.situation import Situation
from onceserve_operator.rollout.state import State
from onceserve_operator.rollout.steps import Wait, first_weight
from onceserve_operator.rollout.timing import elapsed

DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"


def advance(state: State, situation: Situation) -> tuple[State, Answer | None]:
    """Return the state after a pass, and what became of a command that it found."""
    state = _recalled(state, situation)
    state, answer = orders.heed(state, situation)
    return _progressed(_moved(state, situation), situation), answer


def goal(state: State, situation: Situation) -> str | None:
    """Return the revision that should serve: the one that somebody went back to, the wanted one, or what serves."""
    if state.rollback_to and not state.refusal(state.rollback_to):
        return state.rollback_to
    return state.stable if state.refusal(situation.wanted) else situation.wanted


def current(state: State, situation: Situation) -> State:
    """Return the state with a step that exists, where the steps have changed meanwhile."""
    return replace(state, step=min(state.step, len(situation.steps) - 1))


def _recalled(state: State, situation: Situation) -> State:
    """Return the state without what the spec or the world has overtaken."""
    if situation.wanted != state.wanted:
        # What people said was about the former wish.
        state = replace(state, wanted=situation.wanted, refused=(), rollback_to=None)
    if state.rollback_to not in {None, *situation.known}:
        state = replace(state, rollback_to=None)
    if state.revision not in {None, *situation.known}:
        state = replace(state, revision=situation.wanted)
    if (state.stable is None and state.phase is Phase.STABLE) or state.stable not in {None, *situation.known}:
        state = replace(state, stable=_serving(situation))
    return current(state, situation)


def _serving(situation: Situation) -> str | None:
    """Return what serves where the status does not say it: what the Service names, else what has ready pods."""
    traffic = situation.traffic
    if traffic and traffic.revision in situation.known:
        return traffic.revision
    if traffic and not traffic.shared:
        return None
    ready = [revision for revision in situation.known if situation.set_of(revision).ready]
    return max(ready, key=lambda revision: situation.set_of(revision).ready, default=None)


def _moved(state: State, situation: Situation) -> State:
    if situation.replicas == 0:
        return _emptied(state, situation)
    if state.phase in ACTIVE:
        return _on_its_way(state, situation)
    if state.phase is Phase.ABORTING:
        return _returning(state, situation)
    return _at_rest(state, situation)


def _emptied(state: State, situation: Situation) -> State:
    """Nothing serves, so nothing is put at risk; what has not been verified will be when it first gets pods."""
    stable = state.stable if goal(state, situation) == state.stable else None
    return _rested(replace(state, stable=stable), Phase.ABORTED if state.refusal(situation.wanted) else Phase.STABLE)


def _rested(state: State, phase: Phase) -> State:
    if state.phase is phase and state.revision is None:
        return state
    return replace(
        state, phase=phase, revision=None, step=0, started=None, since=None, progressed=None, ready=0, held=None
    )


def _at_rest(state: State, situation: Situation) -> State:
    aim = goal(state, situation)
    if aim is not None and aim != state.stable:
        return _begun(state, situation, aim)
    return _rested(state, Phase.ABORTED if state.refusal(situation.wanted) else Phase.STABLE)


def _begun(state: State, situation: Situation, revision: str) -> State:
    now = situation.now
    return replace(
        state,
        phase=Phase.PREPARING,
        revision=revision,
        step=0,
        started=now,
        since=now,
        progressed=now,
        ready=0,
        held=None,
    )


def _entered(state: State, situation: Situation, phase: Phase, step: int | None = None) -> State:
    now = situation.now
    step = state.step if step is None else step
    return replace(state, phase=phase, step=step, since=now, progressed=now, ready=0, held=None)


def _on_its_way(state: State, situation: Situation) -> State:
    aim = goal(state, situation)
    if aim != state.revision:
        return _superseded(state, situation, aim)
    if problem := failure(state, situation):
        return aborted(state, situation, problem)
    return _WAYS[state.phase](state, situation)


def _superseded(state: State, situation: Situation, aim: str | None) -> State:
    if state.phase is Phase.FINALIZING and aim != state.stable and situation.traffic == Traffic(state.revision):
        # It has all traffic already: it is what the next one must not put at risk.
        return _begun(replace(state, stable=state.revision), situation, aim or situation.wanted)
    if aim is not None and aim != state.stable and not _has_traffic(state, situation):
        return _begun(state, situation, aim)
    if aim is None:
        return _rested(state, Phase.ABORTED)
    return _entered(state, situation, Phase.ABORTING)


def _has_traffic(state: State, situation: Situation) -> bool:
    revision = state.revision or ""
    return situation.traffic is not None and situation.traffic.reaches(revision)


def failure(state: State, situation: Situation) -> Problem | None:
    """Return why the revision that is on its way must not go on: it is wrong, does badly, or takes too long."""
    pods = situation.set_of(state.revision)
    if pods.failure:
        return pods.failure
    if measuring(state, situation) and situation.measured and situation.measured.problem:
        return situation.measured.problem
    # Without anything to go back to, a revision may take all the time it needs.
    timed = state.phase in {Phase.PREPARING, Phase.VERIFYING, Phase.SHIFTING} and state.stable is not None
    if timed and elapsed(state.progressed, situation.now) >= situation.deadline:
        cause = pods.trouble
        words = f"no progress for {situation.deadline:g} s" + (f": {cause.message}" if cause else "")
        return Problem(cause.reason if cause else DEADLINE_EXCEEDED, words, permanent=True)
    return None


def measuring(state: State, situation: Situation) -> bool:
    """Say whether what the pods measure is judged: traffic of users reaches it, and there is a way back."""
    shifting = state.phase in {Phase.SHIFTING, Phase.PAUSED, Phase.FINALIZING} and state.stable is not None
    return shifting and ((situation.routed and aims.weight(state, situation) > 0) or _has_traffic(state, situation))


def aborted(state: State, situation: Situation, problem: Problem) -> State:
    """Return the state in which the revision that is on its way is given up."""
    refused = state.refusing(state.revision or "", problem)
    if state.stable is None:
        return _rested(replace(state, refused=refused), Phase.ABORTED)
    return replace(_entered(state, situation, Phase.ABORTING), refused=refused)


def enough(state: State, situation: Situation) -> int:
    """Return how many pods the new revision needs before traffic: one is better than an old revision without any."""
    if state.stable is None or not situation.set_of(state.stable).ready:
        return 1
    return split.first(situation, first_weight(situation.steps))


def _prepared(state: State, situation: Situation) -> State:
    up = situation.set_of(state.revision).ready >= enough(state, situation)
    return _entered(state, situation, Phase.VERIFYING) if up else state


def _verified(state: State, situation: Situation) -> State:
    if situation.set_of(state.revision).verified < enough(state, situation):
        return state
    if state.stable is None:
        return _rested(replace(state, stable=state.revision), Phase.STABLE)
    return _entered(state, situation, Phase.SHIFTING)


def _shifted(state: State, situation: Situation) -> State:
    if isinstance(situation.steps[state.step], Wait):
        return _entered(state, situation, Phase.PAUSED)
    if not aims.reached(state, situation):
        return state
    if state.step + 1 == len(situation.steps):
        return _entered(state, situation, Phase.FINALIZING)
    return _entered(state, situation, Phase.SHIFTING, state.step + 1)


def _waited(state: State, situation: Situation) -> State:
    step = situation.steps[state.step]
    if state.held:
        return state
    due = not isinstance(step, Wait) or (
        step.seconds is not None and elapsed(state.since, situation.now) >= step.seconds
    )
    return _entered(state, situation, Phase.SHIFTING, min(state.step + 1, len(situation.steps) - 1)) if due else state


def _finalized(state: State, situation: Situation) -> State:
    others = (pods.present for revision, pods in situation.sets.items() if revision != state.revision)
    if situation.traffic != Traffic(state.revision) or any(others):
        return state
    return _rested(replace(state, stable=state.revision), Phase.STABLE)


_WAYS = {
    Phase.PREPARING: _prepared,
    Phase.VERIFYING: _verified,
    Phase.SHIFTING: _shifted,
    Phase.PAUSED: _waited,
    Phase.FINALIZING: _finalized,
}


def _returning(state: State, situation: Situation) -> State:
    aim = goal(state, situation)
    old, new = situation.set_of(state.stable), situation.set_of(state.revision)
    back = situation.traffic == Traffic(state.stable)
    if not back and elapsed(state.progressed, situation.now) >= situation.deadline and new.ready > old.ready:
        if not state.refusal(state.revision):
            # The old one cannot come back, and the new one was found right: it is what serves.
            state = replace(state, stable=state.revision)
        return state
    if not back:
        return state
    if aim != state.stable and aim is not None:
        return _begun(state, situation, aim)
    full = min(situation.replicas, max(situation.floor, 1))
    if old.ready < full:
        return state
    return _rested(state, Phase.ABORTED if state.refusal(situation.wanted) else Phase.STABLE)


def _progressed(state: State, situation: Situation) -> State:
    """Return the state with the moment at which one more pod than ever in this phase was ready, or verified."""
    if state.phase not in {Phase.PREPARING, Phase.VERIFYING, Phase.SHIFTING, Phase.ABORTING}:
        return state
    pods = situation.set_of(state.stable if state.phase is Phase.ABORTING else state.revision)
    count = pods.ready + pods.verified
    return replace(state, ready=count, progressed=situation.now) if count > state.ready else state
