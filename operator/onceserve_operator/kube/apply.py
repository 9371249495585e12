"""Making the cluster as it is wanted: only what differs is written, only what is ours is deleted."""

from kubernetes.aio.dynamic.exceptions import DynamicApiError

from onceserve_operator.domain import Key, Manifest, Observed, Problem
from onceserve_operator.kube import drift, kinds
from onceserve_operator.kube.cache import Cache
from onceserve_operator.kube.client import Client, explain
from onceserve_operator.kube.observe import belongs

NAME_TAKEN = "NameTaken"
WRITE_REFUSED = "WriteRefused"

_RETRIED = {429, 500, 502, 503, 504}
"""Statuses that say nothing about the object: the whole pass is tried again."""


async def apply(
    client: Client, cache: Cache, observed: Observed, children: tuple[Manifest, ...]
) -> tuple[Problem, ...]:
    """Write the children that differ, delete those no longer wanted, and return what the API server refused.

    One refused object keeps no other from being written. Raises DynamicApiError when the API server is in trouble.
    """
    refusals = [await _write(client, cache, observed.uid, drift.marked(child)) for child in children]
    wanted = {_address(child) for child in children}
    for surplus in _surplus(cache, observed.key, observed.uid, wanted):
        await client.delete(surplus)
        cache.drop(surplus)
    return tuple(refusal for refusal in refusals if refusal)


async def _write(client: Client, cache: Cache, uid: str, child: Manifest) -> Problem | None:
    metadata = child["metadata"]
    live = cache.get(kinds.of(child), metadata["namespace"], metadata["name"])
    if live and belongs(live, uid) and drift.is_as_wanted(child, live):
        return None
    try:
        # What is not in the cache may still exist: someone else's, without our label.
        live = live or await client.get(kinds.of(child), metadata["namespace"], metadata["name"])
        if live and not belongs(live, uid):
            return Problem(
                NAME_TAKEN, f"{child['kind']} {metadata['name']} exists and belongs to something else", permanent=True
            )
        cache.put(await client.apply(child))
    except DynamicApiError as error:
        if error.status in _RETRIED:
            raise
        return Problem(WRITE_REFUSED, f"{child['kind']} {metadata['name']}: {explain(error)}", permanent=True)
    return None


def _surplus(cache: Cache, key: Key, uid: str, wanted: set[tuple[str, str]]) -> list[Manifest]:
    owned = (manifest for kind in kinds.OWNED for manifest in cache.owned(kind, key))
    return [manifest for manifest in owned if belongs(manifest, uid) and _address(manifest) not in wanted]


def _address(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]
