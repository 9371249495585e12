"""What people are told of a rollout, and when it goes on by itself."""

from datetime import UTC, datetime, timedelta

from onceserve_operator.domain import Event
from onceserve_operator.rollout import aims
from onceserve_operator.rollout.judgement import enough, measuring
from onceserve_operator.rollout.phases import ACTIVE, TIMED, Phase
from onceserve_operator.rollout.situation import Situation
from onceserve_operator.rollout.state import State
from onceserve_operator.rollout.steps import ALL, Wait
from onceserve_operator.rollout.timing import elapsed


def percent(state: State, situation: Situation) -> int | None:
    """Return the percentage of traffic that the revision on its way gets."""
    if state.revision is None:
        return None
    if situation.routed and state.phase in ACTIVE:
        return aims.routed_weight(state, situation) or 0
    served = situation.reached(situation.traffic)
    if not served or situation.traffic is None or not situation.traffic.reaches(state.revision):
        return 0
    return round(ALL * situation.set_of(state.revision).ready / served)


def due(state: State, situation: Situation) -> float | None:
    """Return the seconds until time itself changes something; None also where that time is past and does not help."""
    limit = _limit(state, situation)
    left = 0.0 if limit is None else limit - elapsed(_began(state), situation.now)
    return left if left > 0 else None


def _began(state: State) -> datetime | None:
    return state.progressed if state.phase in {*TIMED, Phase.ABORTING} else state.since


def _limit(state: State, situation: Situation) -> float | None:
    if state.phase is Phase.FINALIZING:
        return situation.scale_down_delay
    if state.phase is Phase.PAUSED and not state.held:
        step = situation.steps[state.step]
        return step.seconds if isinstance(step, Wait) else None
    timed = state.phase is Phase.ABORTING or (state.phase in TIMED and state.stable is not None)
    return situation.deadline if timed else None


def _until(state: State, situation: Situation) -> str:
    began, limit = _began(state), _limit(state, situation)
    if began is None or limit is None:
        return ""
    return (began + timedelta(seconds=limit)).astimezone(UTC).strftime("%H:%M:%S UTC")


def of_state(state: State, situation: Situation) -> str:
    """Return what is awaited, and until when."""
    return _WORDS[state.phase](state, situation)


def _stable(state: State, _: Situation) -> str:
    return f"{state.stable} gets all traffic" if state.stable else "no pod is wanted"


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
    return f"{_step(state, situation)}: {moves}{_measured(state, situation)}{_given_up(state, situation)}"


def _given_up(state: State, situation: Situation) -> str:
    until = _until(state, situation)
    return f"; it is given up at {until}" if until else ""


def _finalizing(state: State, situation: Situation) -> str:
    leave = f" at {_until(state, situation)}" if situation.whole else ""
    return f"{state.revision} gets all traffic; the pods of {state.stable} leave{leave}"


def _aborting(state: State, situation: Situation) -> str:
    return f"{_reason(state, situation)}; traffic goes back to {state.stable}"


def _aborted(state: State, situation: Situation) -> str:
    who = f"{state.stable} gets all traffic" if state.stable else "nothing gets traffic"
    return f"{_reason(state, situation)}; {who} until the spec asks for another revision or somebody retries"


def _paused(state: State, situation: Situation) -> str:
    if state.held:
        return f"paused by command while {state.held.lower()} {state.revision}, until somebody promotes"
    until = _until(state, situation)
    how = f"until {until}" if until else "until somebody promotes"
    share = f"{state.revision} gets {percent(state, situation)} % of traffic"
    return f"{_step(state, situation)}: paused {how}; {share}{_measured(state, situation)}"


def _step(state: State, situation: Situation) -> str:
    return f"step {state.step + 1} of {len(situation.steps)}"


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
