"""What was remembered, without what the spec or the world has overtaken."""

from dataclasses import replace
from datetime import datetime

from onceserve_operator.rollout.phases import COMING_UP, Phase
from onceserve_operator.rollout.situation import Situation
from onceserve_operator.rollout.state import State
from onceserve_operator.rollout.steps import told, weight_told, within


def recalled(state: State, situation: Situation) -> State:
    """Return the state as it can be gone on from."""
    if situation.wanted != state.wanted:
        # What people said was about the former wish.
        state = replace(state, wanted=situation.wanted, refused=(), rollback_to=None)
    if state.rollback_to not in {None, *situation.known}:
        state = replace(state, rollback_to=None)
    if state.stable not in {None, *situation.known}:
        # Without the way back there is no way on.
        state = replace(state.resting(Phase.STABLE), stable=None)
    if state.stable is None and state.phase in {Phase.STABLE, Phase.ABORTED}:
        serving = _serving(situation)
        state = replace(state, stable=None if state.refusal(serving) else serving)
    state = _replanned(state, situation)
    return replace(
        state,
        step=min(state.step, len(situation.steps) - 1),
        since=_past(state.since, situation),
        progressed=_past(state.progressed, situation),
    )


def _replanned(state: State, situation: Situation) -> State:
    """Return the state at a step that gives no more traffic than there is, where the steps so far were changed."""
    moves = state.revision is not None and state.phase not in {Phase.FINALIZING, Phase.ABORTING}
    if not moves or state.taken in {None, told(situation.steps[: state.step + 1])}:
        return state
    coming_up = {state.phase, state.held} & COMING_UP
    weight = 0 if coming_up else min(weight_told(state.taken or ""), situation.share_of(state.revision))
    step = within(situation.steps, weight)
    if coming_up or state.held:
        return replace(state, step=step)
    return state.entering(Phase.SHIFTING, situation.now, step=step)


def _past(moment: datetime | None, situation: Situation) -> datetime | None:
    """Return a moment; now, where a clock that was set back has put it in the future."""
    return min(moment, situation.now) if moment else None


def _serving(situation: Situation) -> str | None:
    """Return what serves where the status does not say it, as the Service tells; what nobody reaches is unproven."""
    traffic = situation.traffic
    if traffic is None or not traffic.shared:
        return traffic.revision if traffic and traffic.revision in situation.known else None
    # Of equals the older one: it is more likely to have served before.
    ready = [revision for revision in reversed(situation.known) if situation.set_of(revision).ready]
    return max(ready, key=lambda revision: situation.set_of(revision).ready, default=None)
