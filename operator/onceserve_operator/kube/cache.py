"""What is known of the cluster: fed by watches, by our own writes, and by a full listing now and then.

A pass reads from here and so costs the API server nothing. Our own writes are put in at once: the next pass sees
them even if the watch is late, and writes nothing twice.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from sys import intern
from typing import Any

from onceserve_operator.domain import Key, Manifest
from onceserve_operator.kube import kinds
from onceserve_operator.kube.kinds import Kind

Identity = tuple[str, str]
"""Namespace and name."""

_PIECE = 100
"""Objects of a listing that are taken in one go: a new one takes some 0.1 ms, and the lease is renewed meanwhile."""
_SHARED = 32
"""Levels of an object that are compacted. Below lies nothing of Kubernetes, however deep somebody has nested it."""


class Cache:
    """Objects by kind, and by the ModelDeployment that they belong to."""

    def __init__(self) -> None:
        self._objects: dict[Kind, dict[Identity, Manifest]] = defaultdict(dict)
        self._by_owner: dict[tuple[Kind, Key], set[Identity]] = defaultdict(set)
        self._deleted: dict[Kind, dict[str, int]] = defaultdict(dict)
        self._listings: dict[Kind, int] = defaultdict(int)
        self._absent: set[Kind] = set()

    def put(self, manifest: Manifest) -> None:
        """Keep an object, unless a newer version of it or its deletion is known."""
        kind, identity = kinds.of(manifest), _identity(manifest)
        known = self._objects[kind].get(identity)
        if known is not None and _version(known) >= _version(manifest):
            return
        if manifest["metadata"]["uid"] in self._deleted[kind]:
            return
        self._forget(kind, identity)
        self._objects[kind][identity] = _trimmed(manifest)
        if owner := kinds.owner(kind, manifest):
            self._by_owner[kind, owner].add(identity)

    def drop(self, manifest: Manifest) -> None:
        """Forget a deleted object, unless a namesake made later is known."""
        kind, identity = kinds.of(manifest), _identity(manifest)
        known, uid = self._objects[kind].get(identity), manifest["metadata"]["uid"]
        # A listing or an answer that was on its way meanwhile must not bring it back.
        self._deleted[kind][uid] = self._listings[kind]
        if known is not None and known["metadata"]["uid"] == uid:
            self._forget(kind, identity)

    async def replace(self, kind: Kind, manifests: Iterable[Manifest], version: int) -> None:
        """Take a full listing as the truth of its moment; only what is newer than it outlives it."""
        self._absent.discard(kind)
        listed = {_identity(manifest): manifest for manifest in manifests}
        for identity, known in list(self._objects[kind].items()):
            if identity not in listed and _version(known) <= version:
                self._forget(kind, identity)
        for number, manifest in enumerate(listed.values()):
            if number % _PIECE == 0:
                await asyncio.sleep(0)
            self.put(manifest)
        self._listings[kind] += 1
        # What was deleted before the listing began cannot be in the next one.
        recent = self._listings[kind] - 1
        self._deleted[kind] = {uid: since for uid, since in self._deleted[kind].items() if since >= recent}

    def withdraw(self, kind: Kind) -> None:
        """Take it that the API server does not know a kind, until a listing finds it again."""
        self._absent.add(kind)
        for identity in list(self._objects[kind]):
            self._forget(kind, identity)

    def serves(self, kind: Kind) -> bool:
        """Say whether the API server knows a kind, as the last listing had it."""
        return kind not in self._absent

    def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """Return an object, or None where none is known."""
        return self._objects[kind].get((namespace, name))

    def owned(self, kind: Kind, owner: Key) -> list[Manifest]:
        """Return the objects of a kind that say they belong to a ModelDeployment."""
        return [self._objects[kind][identity] for identity in sorted(self._by_owner.get((kind, owner), ()))]

    def keys(self) -> list[Key]:
        """Return all ModelDeployments."""
        return [Key(*identity) for identity in self._objects[kinds.MODEL_DEPLOYMENT]]

    def _forget(self, kind: Kind, identity: Identity) -> None:
        known = self._objects[kind].pop(identity, None)
        owner = kinds.owner(kind, known) if known else None
        if owner:
            siblings = self._by_owner[kind, owner]
            siblings.discard(identity)
            if not siblings:
                del self._by_owner[kind, owner]


def _identity(manifest: Manifest) -> Identity:
    return manifest["metadata"]["namespace"], manifest["metadata"]["name"]


def _version(manifest: Manifest) -> int:
    # Kubernetes guarantees since 1.35 that versions of one resource are ordered numbers; they always were.
    return int(manifest["metadata"]["resourceVersion"])


def _trimmed(manifest: Manifest) -> Manifest:
    metadata = {name: value for name, value in manifest["metadata"].items() if name != "managedFields"}
    compact: Manifest = _compact({**manifest, "metadata": metadata})
    return compact


def _compact(value: Any, levels: int = _SHARED) -> Any:  # noqa: ANN401 - any part of a manifest
    """Return the same in half the memory: most keys and many values are those of other objects too."""
    match value:
        case str():
            return intern(value)
        case dict() if levels:
            return {intern(name): _compact(each, levels - 1) for name, each in value.items()}
        case list() if levels:
            return [_compact(each, levels - 1) for each in value]
        case _:
            return value
