"""What was remembered, without what the spec or the world has overtaken."""

from dataclasses import replace
from datetime import datetime

from onceserve_operator.rollout.phases import Phase
from onceserve_operator.rollout.situation import Situation
from onceserve_operator.rollout.state import State


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
    return replace(
        state,
        step=min(state.step, len(situation.steps) - 1),
        since=_past(state.since, situation),
        progressed=_past(state.progressed, situation),
    )


def _past(moment: datetime | None, situation: Situation) -> datetime | None:
    """Return a moment; now, where a clock that was set back has put it in the future."""
    return min(moment, situation.now) if moment else None


def _serving(situation: Situation) -> str | None:
    """Return what serves where the status does not say it, as the Service tells; what nobody reaches is unproven."""
    traffic = situation.traffic
    if traffic is None or not traffic.shared:
        return traffic.revision if traffic and traffic.revision in situation.known else None
    ready = [revision for revision in situation.known if situation.set_of(revision).ready]
    return max(ready, key=lambda revision: situation.set_of(revision).ready, default=None)
