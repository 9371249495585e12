"""Rollout: which revision gets traffic, and how many pods each one has."""

from onceserve_operator.domain import Observed, Revision, Step

STABLE = "Stable"
PREPARING = "Preparing"


def advance(observed: Observed, target: Revision, replicas: int) -> Step:
    """Return the next step towards the wanted revision.

    The old revision keeps traffic and all its pods until the new one has every pod ready; then traffic moves at once
    and the old pods drain. Derived from live objects alone: a restarted operator goes on where the last stopped.
    """
    stable = _routed(observed) or target
    if stable.name == target.name:
        return Step(target, target, {target.name: replicas}, STABLE, f"{target.name} gets all traffic")
    ready = observed.ready_pods(target.name)
    if ready >= replicas:
        return Step(
            target, target, {target.name: replicas}, STABLE, f"traffic moves from {stable.name} to {target.name}"
        )
    message = f"{ready} of {replicas} pods of {target.name} are ready; {stable.name} gets all traffic until all are"
    return Step(target, stable, {target.name: replicas, stable.name: replicas}, PREPARING, message)


def _routed(observed: Observed) -> Revision | None:
    return next((each for each in observed.revisions if each.name == observed.routed_revision), None)
