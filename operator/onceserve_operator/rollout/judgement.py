"""Why a revision that is on its way must not go on, and when it has come far enough."""

from onceserve_operator.domain import Problem
from onceserve_operator.rollout import split
from onceserve_operator.rollout.phases import TIMED, Phase
from onceserve_operator.rollout.situation import Situation
from onceserve_operator.rollout.state import State
from onceserve_operator.rollout.steps import first_weight
from onceserve_operator.rollout.timing import elapsed

DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"


def failure(state: State, situation: Situation) -> Problem | None:
    """Return why the revision that is on its way must not go on: it is wrong, does badly, or takes too long."""
    pods = situation.set_of(state.revision)
    if pods.failure:
        return pods.failure
    if measuring(state, situation) and situation.measured and situation.measured.problem:
        return situation.measured.problem
    return _lateness(state, situation)


def _lateness(state: State, situation: Situation) -> Problem | None:
    pods = situation.set_of(state.revision)
    # Without anything to go back to, a revision may take all the time it needs.
    timed = state.phase in TIMED and state.stable is not None
    # An operator that was away has to ask first.
    if not timed or pods.unasked or elapsed(state.progressed, situation.now) < situation.deadline:
        return None
    cause = pods.trouble
    words = f"no progress for {situation.deadline:g} s" + (f": {cause.message}" if cause else "")
    return Problem(cause.reason if cause else DEADLINE_EXCEEDED, words, permanent=True)


def measuring(state: State, situation: Situation) -> bool:
    """Say whether what the pods measure is judged: traffic of users reaches them, and there is a way back."""
    shifting = state.phase in {Phase.SHIFTING, Phase.PAUSED, Phase.FINALIZING} and state.stable is not None
    return shifting and exposed(state, situation)


def exposed(state: State, situation: Situation) -> bool:
    """Say whether requests of users reach the revision that is on its way."""
    traffic = situation.traffic
    by_service = traffic is not None and traffic.reaches(state.revision or "")
    return by_service or (situation.routed and situation.routed_weight > 0)


def enough(state: State, situation: Situation) -> int:
    """Return how many pods the new revision needs before traffic: one is better than an old revision without any."""
    if state.stable is None or not situation.set_of(state.stable).ready:
        return 1
    return split.first(situation, first_weight(situation.steps))
