"""The machine: from what was remembered and what is seen to what is remembered next.

One transition a pass at most. It decides nothing of pods and traffic: `aims` derives those from the state that comes
out, bounded by what is seen, so that a pass may be lost or done twice anywhere.
"""

from dataclasses import replace

from onceserve_operator.domain import Traffic
from onceserve_operator.rollout import aims, orders
from onceserve_operator.rollout.judgement import awaited_since, enough, exposed, failure, short
from onceserve_operator.rollout.orders import Answer
from onceserve_operator.rollout.phases import ACTIVE, TIMED, Phase
from onceserve_operator.rollout.recall import recalled
from onceserve_operator.rollout.situation import Situation
from onceserve_operator.rollout.state import State
from onceserve_operator.rollout.steps import Wait
from onceserve_operator.rollout.timing import elapsed


def advance(state: State, situation: Situation) -> tuple[State, Answer | None]:
    """Return the state after a pass, and what became of a command that it found."""
    known, answer = recalled(state, situation), None
    if known.phase is state.phase:
        known, answer = orders.heed(known, situation)
        if answer is None or not answer.heeded:
            # Progress first: it may have come while no operator was there to see that it was in time.
            known = _moved(_progressed(known, situation), situation)
    elif known.phase in ACTIVE and goal(known, situation) == known.revision:
        # Changed steps are no reprieve.
        known = _given_up(known, situation) or known
    return _progressed(known.on(situation.steps), situation), answer


def goal(state: State, situation: Situation) -> str | None:
    """Return the revision that should serve: the one that somebody went back to, the wanted one, or what serves."""
    if state.rollback_to and not state.refusal(state.rollback_to):
        return state.rollback_to
    return state.stable if state.refusal(situation.wanted) else situation.wanted


def _moved(state: State, situation: Situation) -> State:
    if situation.replicas == 0:
        return _emptied(state, situation)
    if state.phase in ACTIVE:
        return _on_its_way(state, situation)
    if state.phase is Phase.ABORTING:
        return _returning(state, situation)
    return _at_rest(state, situation)


def _emptied(state: State, situation: Situation) -> State:
    """Nothing serves; what has not been found right will be verified when there are pods again."""
    still_refused = state.phase is Phase.ABORTED and state.refusal(situation.wanted)
    return state.resting(Phase.ABORTED if still_refused else Phase.STABLE)


def _rested(state: State, situation: Situation) -> State:
    return state.resting(Phase.ABORTED if state.refusal(situation.wanted) else Phase.STABLE)


def _at_rest(state: State, situation: Situation) -> State:
    aim = goal(state, situation)
    if aim is not None and aim != state.stable:
        return state.beginning(aim, situation.now)
    return _rested(state, situation)


def _on_its_way(state: State, situation: Situation) -> State:
    aim = goal(state, situation)
    if aim != state.revision:
        return _superseded(state, situation, aim)
    return _given_up(state, situation) or _WAYS[state.phase](state, situation)


def _superseded(state: State, situation: Situation, aim: str | None) -> State:
    if aim is None:
        return _rested(state, situation)
    if aim != state.stable and (state.phase is Phase.FINALIZING or state.stable is None) and exposed(state, situation):
        # It has all traffic already: it is what the next one must not put at risk.
        return replace(state, stable=state.revision).beginning(aim, situation.now)
    if aim != state.stable and not exposed(state, situation):
        return state.beginning(aim, situation.now)
    return state.entering(Phase.ABORTING, situation.now)


def _given_up(state: State, situation: Situation) -> State | None:
    problem = failure(state, situation)
    if problem is None:
        return None
    state = replace(state, refused=state.refusing(state.revision or "", problem))
    if state.stable is None:
        return state.resting(Phase.ABORTED)
    return state.entering(Phase.ABORTING, situation.now)


def _prepared(state: State, situation: Situation) -> State:
    up = situation.set_of(state.revision).ready >= enough(state, situation)
    return state.entering(Phase.VERIFYING, situation.now) if up else state


def _verified(state: State, situation: Situation) -> State:
    if situation.set_of(state.revision).verified < enough(state, situation):
        return state
    if state.stable is None:
        return _rested(replace(state, stable=state.revision), situation)
    return state.entering(Phase.SHIFTING, situation.now)


def _shifted(state: State, situation: Situation) -> State:
    if isinstance(situation.steps[state.step], Wait):
        return state.entering(Phase.PAUSED, situation.now)
    if not aims.reached(state, situation):
        return state
    if state.step + 1 == len(situation.steps):
        return state.entering(Phase.FINALIZING, situation.now)
    return state.entering(Phase.SHIFTING, situation.now, step=state.step + 1)


def _waited(state: State, situation: Situation) -> State:
    if state.held:
        return state
    step = situation.steps[state.step]
    if not isinstance(step, Wait):
        # The steps are others now.
        return state.entering(Phase.SHIFTING, situation.now)
    if step.seconds is None or elapsed(state.since, situation.now) < step.seconds:
        return state
    return state.entering(Phase.SHIFTING, situation.now, step=state.step + 1)


def _finalized(state: State, situation: Situation) -> State:
    others = (pods.present for revision, pods in situation.sets.items() if revision != state.revision)
    # Who is connected to a pod that leaves is still answered by it.
    draining = situation.at_once and situation.drained_by is not None
    if situation.traffic != Traffic(state.revision) or any(others) or draining:
        return state
    return _rested(replace(state, stable=state.revision), situation)


_WAYS = {
    Phase.PREPARING: _prepared,
    Phase.VERIFYING: _verified,
    Phase.SHIFTING: _shifted,
    Phase.PAUSED: _waited,
    Phase.FINALIZING: _finalized,
}


def _returning(state: State, situation: Situation) -> State:
    if situation.traffic != Traffic(state.stable):
        return _stayed(state, situation)
    aim = goal(state, situation)
    if aim != state.stable and aim is not None:
        return state.beginning(aim, situation.now)
    return _rested(state, situation) if _is_back(state, situation) else state


def _is_back(state: State, situation: Situation) -> bool:
    old = situation.set_of(state.stable)
    return old.ready >= max(1, situation.floor) and old.desired >= situation.replicas


def _stayed(state: State, situation: Situation) -> State:
    """Return the state in which what was found right is what serves, where the old revision cannot come back."""
    old, new = situation.set_of(state.stable), situation.set_of(state.revision)
    late = elapsed(awaited_since(state, situation), situation.now) >= situation.deadline
    # Who asks for another revision is not kept waiting for one that has nothing ready.
    superseded = not old.ready and goal(state, situation) not in {state.stable, state.revision}
    sound = exposed(state, situation) and not state.refusal(state.revision)
    if not (late or superseded) or not sound or new.ready <= old.ready:
        return state
    return _at_rest(replace(state, stable=state.revision), situation)


def _progressed(state: State, situation: Situation) -> State:
    """Return the state with the moment at which one more pod than ever in this phase was ready, or verified."""
    if state.phase in {Phase.PAUSED, Phase.FINALIZING}:
        lacks_since = state.progressed or situation.now
        return replace(state, progressed=lacks_since if short(state, situation) else None)
    if state.phase not in {*TIMED, Phase.ABORTING}:
        return state
    pods = situation.set_of(state.stable if state.phase is Phase.ABORTING else state.revision)
    count = pods.ready + pods.verified
    if pods.ready and pods.unasked == pods.ready:
        # An operator that was away verifies anew: that is progress again.
        state = replace(state, ready=min(state.ready, count))
    return replace(state, ready=count, progressed=situation.now) if count > state.ready else state
