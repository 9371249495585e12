"""Why a revision that is on its way must not go on, and when it has come far enough."""

from datetime import datetime

from onceserve_operator.domain import Problem, Traffic
from onceserve_operator.rollout import aims, split
from onceserve_operator.rollout.phases import TIMED, Phase
from onceserve_operator.rollout.situation import Situation
from onceserve_operator.rollout.state import State
from onceserve_operator.rollout.steps import first_weight
from onceserve_operator.rollout.timing import elapsed

DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
PODS_LOST = "PodsLost"


def failure(state: State, situation: Situation) -> Problem | None:
    """Return why the revision that is on its way must not go on: it is wrong, does badly, or takes too long."""
    pods = situation.set_of(state.revision)
    if pods.failure:
        return pods.failure
    if measuring(state, situation) and situation.measured and situation.measured.problem:
        return situation.measured.problem
    return _loss(state, situation) or _lateness(state, situation)


def _loss(state: State, situation: Situation) -> Problem | None:
    """Return what is wrong where a revision has all traffic and lost the pods for it, while the old one has them."""
    new, old = situation.set_of(state.revision), situation.set_of(state.stable)
    alone = state.stable is not None and situation.traffic == Traffic(state.revision)
    better = old.ready >= (situation.available if new.ready else 1)
    if not alone or not better or new.ready >= situation.available:
        return None
    words = f"{new.ready} of its pods are ready, {old.ready} of {state.stable} are"
    return Problem(PODS_LOST, words + (f": {new.trouble.message}" if new.trouble else ""), permanent=True)


def _lateness(state: State, situation: Situation) -> Problem | None:
    pods = situation.set_of(state.revision)
    since = awaited_since(state, situation)
    # An operator that was away has to ask first.
    if since is None or pods.unasked or elapsed(since, situation.now) < situation.deadline:
        return None
    cause = pods.trouble
    words = f"no progress for {situation.deadline:g} s" + (f": {cause.message}" if cause else "")
    return Problem(cause.reason if cause else DEADLINE_EXCEEDED, words, permanent=True)


def awaited_since(state: State, situation: Situation) -> datetime | None:
    """Return since when more is awaited of the revision on its way, or of the old one where that is to come back."""
    # Without anything to go back to, a revision may take all the time it needs.
    if state.stable is None or not (state.phase in {*TIMED, Phase.ABORTING} or short(state, situation)):
        return None
    # Clocks differ: what another one has written says little of how long this one has looked on.
    return max(filter(None, (state.progressed, situation.seen_since)), default=None)


def short(state: State, situation: Situation) -> bool:
    """Say whether a revision of which nothing more is awaited has lost pods that it needs for its traffic."""
    waits = state.stable is not None and state.phase in {Phase.PAUSED, Phase.FINALIZING}
    if not waits or aims.weight(state, situation) == 0:
        return False
    return situation.set_of(state.revision).ready < aims.sizes(state, situation)[1]


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
