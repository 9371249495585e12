"""What each phase is after, in pods and traffic, and how much of it is safe at once."""

from onceserve_operator.domain import EVERYBODY, NOBODY, Traffic
from onceserve_operator.rollout import split
from onceserve_operator.rollout.phases import COMING_UP, Phase
from onceserve_operator.rollout.situation import Situation
from onceserve_operator.rollout.state import State
from onceserve_operator.rollout.steps import ALL, first_weight, weight_at
from onceserve_operator.rollout.timing import elapsed


def weight(state: State, situation: Situation) -> int:
    """Return the percentage of traffic that the revision on its way is to have."""
    if state.phase is Phase.FINALIZING:
        return ALL
    if state.phase in {Phase.SHIFTING, Phase.PAUSED} and state.held not in COMING_UP:
        return weight_at(situation.steps, state.step)
    return 0


def routed_weight(state: State, situation: Situation) -> int | None:
    """Return the percentage that a Gateway is to send to the revision on its way, as far as its pods can carry it.

    None where none of it may reach them. More is given by verified pods alone; after a restart of the operator what
    is ready keeps what it had.
    """
    shifts = {Phase.SHIFTING, Phase.PAUSED, Phase.FINALIZING}
    if not situation.routed or state.phase not in shifts or state.held in COMING_UP:
        return None
    pods = situation.set_of(state.revision)
    carried, kept = _carried(pods.lasting, situation), _carried(min(pods.ready, pods.desired), situation)
    return min(weight(state, situation), max(carried, min(kept, situation.routed_weight)))


def _carried(pods: int, situation: Situation) -> int:
    return ALL * pods // max(1, situation.replicas)


def sizes(state: State, situation: Situation) -> tuple[int, int]:
    """Return the pods that the old and the new revision are to have."""
    replicas = situation.replicas
    if state.stable is None:
        return 0, replicas
    if state.phase is Phase.ABORTING or state.revision is None:
        return replicas, 0
    if state.phase is Phase.FINALIZING:
        return _finally(state, situation)
    percent = weight(state, situation)
    if percent == 0 or situation.at_once:
        new = split.first(situation, first_weight(situation.steps))
        spare = replicas if situation.whole else situation.surge
        return replicas - max(0, new - spare), new
    if state.held and not situation.routed:
        new = min(replicas, situation.set_of(state.revision).desired)
        old = replicas - new
    else:
        old, new = split.shares(situation, percent)
    # What the new revision lacks, or has lost again, the old one has; the new one leaves it the room.
    old = max(old, situation.missing(state.revision))
    return old, min(new, situation.ceiling - old)


def _finally(state: State, situation: Situation) -> tuple[int, int]:
    replicas, missing = situation.replicas, situation.missing(state.revision)
    stays = missing or elapsed(state.since, situation.now) < situation.scale_down_delay
    # What nobody calls grows for what is missing alone.
    kept = min(replicas, situation.set_of(state.stable).desired) if situation.whole and stays else 0
    return max(kept, missing), replicas


def traffic(state: State, situation: Situation) -> Traffic:
    """Return whom the Service is to send requests to."""
    emptied = situation.replicas == 0 and state.phase is Phase.STABLE
    if state.stable is None or (emptied and state.stable != situation.wanted):
        return NOBODY
    old, new = Traffic(state.stable), Traffic(state.revision)
    if state.phase is Phase.FINALIZING:
        return new
    percent = weight(state, situation)
    if percent == 0 or situation.routed:
        return old
    if state.held:
        return situation.traffic or old
    if situation.at_once:
        return new if percent == ALL else old
    return EVERYBODY if sizes(state, situation)[1] else old


def reached(state: State, situation: Situation) -> bool:
    """Say whether the pods and the traffic are as the step wants them."""
    old, new = sizes(state, situation)
    settled = situation.set_of(state.stable).present <= old and situation.set_of(state.revision).lasting >= new
    routed = not situation.routed or situation.routed_weight == routed_weight(state, situation)
    return settled and routed and situation.traffic == traffic(state, situation)


def safe_traffic(state: State, situation: Situation) -> Traffic:
    """Return the traffic that is aimed at if enough ready pods stand behind it, else what there is."""
    aim, now = traffic(state, situation), situation.traffic
    if aim == now or (now is None and aim != EVERYBODY):
        return aim
    return aim if _is_safe(aim, state, situation) else (now or Traffic(state.stable))


def _is_safe(aim: Traffic, state: State, situation: Situation) -> bool:
    served = situation.reached(situation.traffic)
    if aim == EVERYBODY:
        # The pods of a third revision, if only for a moment more, would be reached too.
        ours = {state.stable, state.revision}
        return not any(pods.present for revision, pods in situation.sets.items() if revision not in ours)
    if aim == NOBODY:
        # What has been found wrong is better not reached at all.
        return all(state.refusal(revision) for revision in situation.serving(situation.traffic))
    return situation.set_of(aim.revision).lasting >= min(situation.floor, served)


def safe_sizes(state: State, situation: Situation) -> dict[str, int]:
    """Return the pods that each revision has from now on, as near to the aim as is safe."""
    old, new = sizes(state, situation)
    then = safe_traffic(state, situation)
    revision = state.revision if state.stable else state.revision or situation.wanted
    now = situation.traffic
    if {state.phase, state.held} & COMING_UP and now is not None and now.reaches(revision or ""):
        # Requests would reach pods that nobody has verified.
        new = min(new, situation.set_of(revision).desired)
    return split.towards(situation, old=(state.stable, old), new=(revision, new), traffic=then)
