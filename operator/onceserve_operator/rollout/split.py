"""How many pods each revision has: never fewer ready ones under traffic than must be, never more in all than may be."""

from dataclasses import replace

from onceserve_operator.domain import EVERYBODY, Traffic
from onceserve_operator.rollout.situation import PodSet, Situation
from onceserve_operator.rollout.steps import ALL


def shares(situation: Situation, weight: int) -> tuple[int, int]:
    """Return the pods of the old and the new revision that come nearest to a percentage of traffic for the new one."""
    replicas, surge = situation.replicas, situation.surge
    if situation.routed:
        return replicas, -(-replicas * weight // ALL)
    if weight in {0, ALL}:
        return (replicas, 0) if weight == 0 else (0, replicas)
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


def towards(
    situation: Situation, *, old: tuple[str | None, int], new: tuple[str | None, int], traffic: Traffic
) -> dict[str, int]:
    """Return the pods of each revision that has some, as near to what is wanted as is safe now.

    `traffic` is what the Service is about to be told: it may refuse, or be told by a pass that ends right after.
    """
    wanted = {revision: number for revision, number in (old, new) if revision is not None}
    sets = {**dict.fromkeys(wanted, PodSet()), **situation.sets}
    # Without a Service nobody knows who was reached a moment ago.
    served = {situation.traffic or EVERYBODY, traffic}
    # The new revision first: where both shrink, the old one has served longer.
    order = sorted(sets, key=lambda revision: (revision in wanted, revision == old[0]))
    for revision in order:
        least = max(_least(situation, sets, revision, each) for each in served)
        kept = min(sets[revision].desired, max(wanted.get(revision, 0), least))
        sets[revision] = replace(sets[revision], desired=kept)
    # The old revision first: what serves is brought to its size before anything new.
    for revision in reversed(order):
        room = situation.ceiling - sum(each.present for name, each in sets.items() if name != revision)
        grown = max(sets[revision].desired, min(wanted.get(revision, 0), room))
        sets[revision] = replace(sets[revision], desired=grown)
    return {revision: pods.desired for revision, pods in sets.items() if pods.desired or revision in wanted}


def _least(situation: Situation, sets: dict[str, PodSet], revision: str, traffic: Traffic) -> int:
    """Return the pods that must stay, for what is missing in the others under traffic."""
    if not traffic.reaches(revision):
        return 0
    others = (pods.lasting for name, pods in sets.items() if name != revision and traffic.reaches(name))
    return max(0, situation.floor - sum(others))
