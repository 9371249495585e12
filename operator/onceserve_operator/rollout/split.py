"""How many pods each revision has: never fewer ready ones under traffic than must be, never more in all than may be."""

from dataclasses import replace

from onceserve_operator.domain import EVERYBODY
from onceserve_operator.rollout.situation import PodSet, Situation
from onceserve_operator.rollout.steps import ALL


def shares(situation: Situation, weight: int) -> tuple[int, int]:
    """Return the pods of the old and the new revision that come nearest to a percentage of traffic for the new one."""
    replicas, surge = situation.replicas, situation.surge
    if weight in {0, ALL}:
        return (replicas, 0) if weight == 0 else (0, replicas)
    if situation.routed:
        return replicas, max(1, -(-replicas * weight // ALL))
    pairs = (_pair(total, weight) for total in range(max(2, replicas), replicas + surge + 1))
    # The fewest pods among those that are equally near.
    return min(
        pairs, key=lambda pair: (abs(ALL * pair[1] - weight * sum(pair)) / sum(pair), sum(pair)), default=(replicas, 0)
    )


def _pair(total: int, weight: int) -> tuple[int, int]:
    new = min(total - 1, max(1, round(total * weight / ALL)))
    return total - new, new


def first(situation: Situation, weight: int) -> int:
    """Return how many pods of a new revision come up before any gets traffic."""
    if situation.at_once:
        return situation.replicas
    _, wanted = shares(situation, weight)
    if situation.routed:
        return wanted
    return max(1, min(wanted, situation.surge or situation.unavailable))


def towards(situation: Situation, *, old: tuple[str | None, int], new: tuple[str | None, int]) -> dict[str, int]:
    """Return the pods of each revision that has some, as near to what is wanted as is safe now."""
    wanted = {revision: number for revision, number in (old, new) if revision is not None}
    sets = {**dict.fromkeys(wanted, PodSet()), **situation.sets}
    # The new revision first: where both shrink, the old one has served longer.
    order = sorted(sets, key=lambda revision: (revision in wanted, revision == old[0]))
    for revision in order:
        sets[revision] = _shrunk(situation, sets, revision, wanted.get(revision, 0))
    # The old revision first: what serves is brought to its size before anything new.
    for revision in reversed(order):
        sets[revision] = _grown(situation, sets, revision, wanted.get(revision, 0))
    return {revision: pods.desired for revision, pods in sets.items() if pods.desired or revision in wanted}


def _shrunk(situation: Situation, sets: dict[str, PodSet], revision: str, wanted: int) -> PodSet:
    """Take pods away, as far as the others under traffic are ready in their place."""
    pods = sets[revision]
    # Without a Service nobody knows who was reached a moment ago.
    traffic = situation.traffic or EVERYBODY
    least = 0
    if traffic.reaches(revision):
        others = sum(each.verified for name, each in sets.items() if name != revision and traffic.reaches(name))
        least = max(0, situation.floor - others)
    desired = min(pods.desired, max(wanted, least))
    kept = min(pods.ready, desired)
    return replace(pods, desired=desired, ready=kept, verified=min(pods.verified, desired))


def _grown(situation: Situation, sets: dict[str, PodSet], revision: str, wanted: int) -> PodSet:
    """Add pods, as far as there is room beside those that exist."""
    pods = sets[revision]
    others = sum(each.present for name, each in sets.items() if name != revision)
    return replace(pods, desired=max(pods.desired, min(wanted, situation.ceiling - others)))
