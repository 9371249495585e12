"""Making the cluster as it is wanted: only what differs is written, only what is ours is deleted."""

from onceserve_operator.domain import Key, Manifest, Observed, Problem
from onceserve_operator.errors import ApiRefusedError
from onceserve_operator.kube import drift, kinds
from onceserve_operator.kube.cache import Cache
from onceserve_operator.kube.client import Client
from onceserve_operator.kube.observe import belongs

NAME_TAKEN = "NameTaken"
WRITE_REFUSED = "WriteRefused"


async def apply(
    client: Client, cache: Cache, observed: Observed, children: tuple[Manifest, ...]
) -> tuple[Problem, ...]:
    """Write the children that differ, delete those no longer wanted, and return what the API server refused.

    One refused object keeps no other from being written. Raises ApiUnavailableError: the pass is to be tried again.
    """
    written = [await _write(client, cache, observed, drift.marked(child)) for child in children]
    wanted = {_address(child) for child in children}
    surplus = _surplus(cache, observed.key, observed.uid, wanted)
    deleted = [await _delete(client, cache, each) for each in surplus]
    return tuple(refusal for refusal in (*written, *deleted) if refusal)


async def _write(client: Client, cache: Cache, observed: Observed, child: Manifest) -> Problem | None:
    kind, metadata = kinds.of(child), child["metadata"]
    live = cache.get(kind, metadata["namespace"], metadata["name"])
    if live and belongs(live, observed.uid) and drift.is_as_wanted(child, live):
        return None
    try:
        # What is not in the cache may still exist: someone else's, without our label.
        live = live or await client.get(kind, metadata["namespace"], metadata["name"])
        if live and not belongs(live, observed.uid):
            return _taken(live, observed.key)
        if live is None and kind == kinds.DEPLOYMENT and not _is_stored(cache, observed, metadata["name"]):
            # Its ControllerRevision was refused, which is told already: pods that nothing remembers could not stay.
            return None
        cache.put(await client.apply(child))
    except ApiRefusedError as error:
        return _refused(child, error)
    return None


def _is_stored(cache: Cache, observed: Observed, revision: str) -> bool:
    stored = cache.get(kinds.CONTROLLER_REVISION, observed.key.namespace, revision)
    return stored is not None and belongs(stored, observed.uid)


async def _delete(client: Client, cache: Cache, surplus: Manifest) -> Problem | None:
    try:
        await client.delete(surplus)
    except ApiRefusedError as error:
        return _refused(surplus, error)
    cache.drop(surplus)
    return None


def _refused(child: Manifest, error: ApiRefusedError) -> Problem:
    return Problem(WRITE_REFUSED, f"{child['kind']} {child['metadata']['name']}: {error}", permanent=True)


def _taken(live: Manifest, key: Key) -> Problem:
    name = f"{live['kind']} {live['metadata']['name']}"
    owners = live["metadata"].get("ownerReferences", [])
    if any((owner["kind"], owner["name"]) == (kinds.MODEL_DEPLOYMENT.kind, key.name) for owner in owners):
        return Problem(NAME_TAKEN, f"{name} belongs to the former ModelDeployment of this name and is about to go")
    return Problem(NAME_TAKEN, f"{name} exists and belongs to something else", permanent=True)


def _surplus(cache: Cache, key: Key, uid: str, wanted: set[tuple[str, str]]) -> list[Manifest]:
    owned = (manifest for kind in kinds.OWNED for manifest in cache.owned(kind, key))
    return [manifest for manifest in owned if belongs(manifest, uid) and _address(manifest) not in wanted]


def _address(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]
