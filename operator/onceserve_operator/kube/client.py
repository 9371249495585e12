"""Calls to the API server."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

from onceserve_operator.domain import Event, Key, Manifest
from onceserve_operator.errors import NotFoundError
from onceserve_operator.kube import kinds
from onceserve_operator.kube.connection import Connection
from onceserve_operator.kube.kinds import Kind
from onceserve_operator.resources.names import FIELD_MANAGER

_LOG: Final = logging.getLogger(__name__)
_PAGE = 500


class Client:
    """The few calls that the operator makes. `tenure` says for how many seconds more it may write, or never returns.

    All raise ApiRefusedError for what the API server will not do, ApiUnavailableError for what it may do later.
    """

    def __init__(self, connection: Connection, *, tenure: Callable[[], float]) -> None:
        self._connection = connection
        self._tenure = tenure
        self._writes: set[asyncio.Task[Manifest]] = set()

    async def list(self, kind: Kind, namespace: str | None) -> tuple[list[Manifest], int]:
        """Return the objects of a kind that concern us, and the version of the list."""
        items: list[Manifest] = []
        token: str | None = None
        while True:
            page = await self._connection.request(
                "get", "list", kind, namespace, label_selector=kinds.selector(kind), limit=_PAGE, _continue=token
            )
            for item in page["items"]:
                # A third of each object, which nobody here reads.
                item["metadata"].pop("managedFields", None)
                # Items of a list carry neither.
                items.append({"apiVersion": kind.api_version, "kind": kind.kind, **item})
            token = page["metadata"].get("continue")
            if not token:
                return items, int(page["metadata"]["resourceVersion"])

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """Return an object, or None where there is none."""
        try:
            return await self._connection.request("get", "get", kind, namespace, name)
        except NotFoundError:
            return None

    async def apply(self, manifest: Manifest) -> Manifest:
        """Write the fields of a manifest, as their one owner, and return the object as stored."""
        kind, metadata = kinds.of(manifest), manifest["metadata"]
        return await self._apply(kind, metadata["namespace"], metadata["name"], manifest)

    async def apply_status(self, key: Key, status: Manifest) -> Manifest | None:
        """Write the status of a ModelDeployment; None where it has been deleted meanwhile."""
        kind = kinds.MODEL_DEPLOYMENT
        metadata = {"namespace": key.namespace, "name": key.name}
        body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "status": status}
        try:
            return await self._apply(kind, key.namespace, f"{key.name}/status", body)
        except NotFoundError:
            return None

    async def scale(self, key: Key, replicas: int, version: str) -> None:
        """Write the number of replicas as autoscalers do, unless the ModelDeployment is no longer of this version."""
        body = {"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}}
        await self._write(
            "patch",
            "patch",
            kinds.MODEL_DEPLOYMENT,
            key.namespace,
            f"{key.name}/scale",
            body=body,
            content_type="application/merge-patch+json",
            field_manager=FIELD_MANAGER,
        )

    async def delete(self, manifest: Manifest) -> None:
        """Delete this very object and what hangs on it; a namesake made meanwhile is left alone."""
        metadata = manifest["metadata"]
        body = {"preconditions": {"uid": metadata["uid"]}, "propagationPolicy": "Background"}
        try:
            await self._write(
                "delete", "delete", kinds.of(manifest), metadata["namespace"], metadata["name"], body=body
            )
        except NotFoundError:
            return

    async def post_event(self, about: Manifest, event: Event) -> None:
        """Tell a person who describes the object."""
        await self._write("post", "create", kinds.EVENT, about["metadata"]["namespace"], body=_event(about, event))

    async def settle(self) -> None:
        """Return when no write is on its way; who is cancelled does not take its write back."""
        await asyncio.gather(*self._writes, return_exceptions=True)

    async def _apply(self, kind: Kind, namespace: str, name: str, body: Manifest) -> Manifest:
        return await self._write(
            "patch",
            "patch",
            kind,
            namespace,
            name,
            body=body,
            content_type="application/apply-patch+yaml",
            field_manager=FIELD_MANAGER,
            # Ours are the fields that a ModelDeployment determines; who edits them in a child is overruled.
            force_conflicts="true",
        )

    async def _write(
        self, method: str, verb: str, kind: Kind, namespace: str, name: str | None = None, **params: object
    ) -> Manifest:
        # Nothing that we have given up on may come about when another leads.
        request = self._connection.request(method, verb, kind, namespace, name, within=self._tenure(), **params)
        write = asyncio.create_task(request, name=f"{verb} {kind.kind} {namespace}/{name or ''}")
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)
        try:
            return await asyncio.shield(write)
        except asyncio.CancelledError:
            write.add_done_callback(_tell)
            raise


def _tell(write: asyncio.Task[Manifest]) -> None:
    """Say of a write that nobody waits for any more why it has not come about."""
    if not write.cancelled() and (error := write.exception()):
        _LOG.warning("given up, and not done: %s: %s", write.get_name(), error)


def _event(about: Manifest, event: Event) -> Manifest:
    metadata = about["metadata"]
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{uuid4().hex[:16]}", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
        "reason": event.reason,
        "message": event.message[:1024],
        "type": "Warning" if event.warning else "Normal",
        "source": {"component": FIELD_MANAGER},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
