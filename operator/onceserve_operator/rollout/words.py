"""What people are told of a rollout, and when it goes on by itself."""

from datetime import UTC, datetime, timedelta

from onceserve_operator.domain import Event
from onceserve_operator.rollout import aims
from onceserve_operator.rollout.judgement import awaited_since, enough, measuring, short
from onceserve_operator.rollout.phases import ACTIVE, Phase
from onceserve_operator.rollout.situation import Situation
from onceserve_operator.rollout.state import State
from onceserve_operator.rollout.steps import Wait


def percent(state: State, situation: Situation) -> int | None:
    """Return the percentage of traffic that the revision on its way gets."""
    if state.revision is None:
        return None
    if situation.routed and state.phase in ACTIVE:
        return aims.routed_weight(state, situation) or 0
    return situation.share_of(state.revision)


def due(state: State, situation: Situation) -> float | None:
    """Return the seconds until time itself changes something; None also where that time is past and does not help."""
    drained_by = situation.drained_by if state.phase is Phase.FINALIZING else None
    moments = (_goes_on_at(state, situation), _late_at(state, situation), drained_by)
    left = ((moment - situation.now).total_seconds() for moment in moments if moment)
    return min((seconds for seconds in left if seconds > 0), default=None)


def _goes_on_at(state: State, situation: Situation) -> datetime | None:
    limit = None
    if state.phase is Phase.FINALIZING:
        limit = situation.scale_down_delay
    elif state.phase is Phase.PAUSED and not state.held:
        step = situation.steps[state.step]
        limit = step.seconds if isinstance(step, Wait) else None
    return _after(state.since, limit)


def _late_at(state: State, situation: Situation) -> datetime | None:
    return _after(awaited_since(state, situation), situation.deadline)


def _after(began: datetime | None, seconds: float | None) -> datetime | None:
    return None if began is None or seconds is None else began + timedelta(seconds=seconds)


def _told(moment: datetime, situation: Situation) -> str:
    moment = moment.astimezone(UTC)
    today = moment.date() == situation.now.astimezone(UTC).date()
    return moment.strftime("%H:%M:%S UTC" if today else "%Y-%m-%d %H:%M:%S UTC")


def of_state(state: State, situation: Situation) -> str:
    """Return what is awaited, and until when."""
    return _WORDS[state.phase](state, situation)


def _stable(state: State, situation: Situation) -> str:
    serves = state.stable and (situation.replicas or state.stable == situation.wanted)
    return f"{state.stable} gets all traffic" if serves else "no pod is wanted"


def _preparing(state: State, situation: Situation) -> str:
    return _coming_up(state, situation, situation.set_of(state.revision).ready, "ready")


def _verifying(state: State, situation: Situation) -> str:
    return _coming_up(state, situation, situation.set_of(state.revision).verified, "verified")


def _coming_up(state: State, situation: Situation, number: int, what: str) -> str:
    trouble = situation.set_of(state.revision).trouble
    parts = (
        f"{number} of {enough(state, situation)} pods of {state.revision} are {what}",
        f": {trouble.message}" if trouble else "",
        f"; {state.stable} gets all traffic" if state.stable else "",
        _given_up(state, situation),
    )
    return "".join(parts)


def _shifting(state: State, situation: Situation) -> str:
    moves = f"traffic moves from {state.stable} to {state.revision}"
    return f"{_step(state, situation)}{moves}{_measured(state, situation)}{_given_up(state, situation)}"


def _given_up(state: State, situation: Situation) -> str:
    at = _late_at(state, situation)
    return f"; it is given up at {_told(at, situation)}" if at else ""


def _finalizing(state: State, situation: Situation) -> str:
    serves = f"{state.revision} gets all traffic"
    if short(state, situation):
        ready = situation.set_of(state.revision).ready
        stay = f"the pods of {state.stable} stay while {ready} of {situation.replicas} of it are ready"
        return f"{serves}; {stay}{_given_up(state, situation)}"
    at = _goes_on_at(state, situation) if situation.whole else None
    return f"{serves}; the pods of {state.stable} leave{f' at {_told(at, situation)}' if at else ''}"


def _aborting(state: State, situation: Situation) -> str:
    return f"{_reason(state, situation)}; traffic goes back to {state.stable}"


def _aborted(state: State, situation: Situation) -> str:
    who = f"{state.stable} gets all traffic" if state.stable else "nothing gets traffic"
    return f"{_reason(state, situation)}; {who} until the spec asks for another revision or somebody retries"


def _paused(state: State, situation: Situation) -> str:
    until, given_up = _goes_on_at(state, situation), _given_up(state, situation)
    if state.held:
        return f"paused by command while {state.held.lower()} {state.revision}, until somebody promotes{given_up}"
    how = f"until {_told(until, situation)}" if until else "until somebody promotes"
    share = f"{state.revision} gets {percent(state, situation)} % of traffic"
    return f"{_step(state, situation)}paused {how}; {share}{_measured(state, situation)}{given_up}"


def _step(state: State, situation: Situation) -> str:
    """Return which step it is; the last one, by which all traffic is given, need not have been written by anybody."""
    last = len(situation.steps) - 1
    if last == 0:
        return ""
    return "last step: " if state.step == last else f"step {state.step + 1}: "


def _measured(state: State, situation: Situation) -> str:
    return f"; {situation.measured.message}" if measuring(state, situation) and situation.measured else ""


def _reason(state: State, situation: Situation) -> str:
    refusal = state.refusal(state.revision) or state.refusal(situation.wanted)
    return f"{refusal.revision}: {refusal.message}" if refusal else f"{state.revision} is no longer wanted"


_WORDS = {
    Phase.STABLE: _stable,
    Phase.PREPARING: _preparing,
    Phase.VERIFYING: _verifying,
    Phase.SHIFTING: _shifting,
    Phase.PAUSED: _paused,
    Phase.FINALIZING: _finalizing,
    Phase.ABORTING: _aborting,
    Phase.ABORTED: _aborted,
}

_TOLD = {
    Phase.PREPARING: "RolloutStarted",
    Phase.VERIFYING: "RolloutVerifying",
    Phase.SHIFTING: "TrafficShifting",
    Phase.PAUSED: "RolloutPaused",
    Phase.FINALIZING: "TrafficShifted",
    Phase.ABORTING: "RolloutAborting",
    Phase.ABORTED: "RolloutAborted",
    Phase.STABLE: "RolloutComplete",
}


def of_change(before: State, after: State, message: str) -> tuple[Event, ...]:
    """Return the Event that tells of a new phase or step."""
    first = before.stable is None and after.phase is not Phase.ABORTED
    if first or (after.phase is Phase.STABLE and before.revision is None):
        # The conditions tell of it already.
        return ()
    warning = after.phase is Phase.ABORTED or (after.phase is Phase.ABORTING and bool(after.refusal(after.revision)))
    return (Event(_TOLD[after.phase], message, warning),)
