"""Rollout: which revision gets traffic, and how many pods each one has."""

from onceserve_operator.domain import Observed, Revision, Step

STABLE = "Stable"
PREPARING = "Preparing"
SWITCHING = "Switching"


def advance(observed: Observed, target: Revision, replicas: int) -> Step:
    """Return the next step towards the wanted revision.

    The old revision keeps traffic and all its pods until the new one has every pod ready; then the Service is switched.
    Only when it is seen switched do the old pods go: a refused or lost write can never leave traffic without pods.
    """
    stable = _serving(observed) or target
    if stable.name == target.name:
        return Step(target, target, {target.name: replicas}, STABLE, f"{target.name} gets all traffic")
    ready, wanted = observed.ready_pods(target.name), _enough(observed, stable, replicas)
    both = {target.name: replicas, stable.name: replicas}
    if ready >= wanted:
        return Step(target, target, both, SWITCHING, f"traffic moves from {stable.name} to {target.name}")
    message = f"{ready} of {replicas} pods of {target.name} are ready; {stable.name} gets all traffic until all are"
    return Step(target, stable, both, PREPARING, message)


def _enough(observed: Observed, stable: Revision, replicas: int) -> int:
    """Return how many pods the new revision needs for traffic: a single one is better than an old one that has none."""
    return replicas if observed.ready_pods(stable.name) else min(1, replicas)


def _serving(observed: Observed) -> Revision | None:
    """Return the revision that gets traffic; without a Service to tell, the one that did, or one that could."""
    known = {revision.name: revision for revision in observed.revisions}
    recorded = (observed.routed_revision, observed.status.get("stableRevision"))
    for name in recorded:
        if name in known:
            return known[name]
    return max(observed.revisions, key=lambda each: observed.ready_pods(each.name), default=None)
