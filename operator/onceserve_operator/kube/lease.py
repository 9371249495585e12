"""The Lease object that leaders hold. Whoever writes names the version that it has read: of two at once one wins."""

from datetime import UTC, datetime
from typing import Final

from onceserve_operator.domain import Manifest
from onceserve_operator.election import Record
from onceserve_operator.errors import NotFoundError
from onceserve_operator.kube.connection import Connection
from onceserve_operator.kube.kinds import Kind

LEASE: Final = Kind("coordination.k8s.io", "v1", "Lease", "leases")


class Lease:
    """One Lease. Calls raise ApiRefusedError, ApiUnavailableError, and ConflictError where another wrote first."""

    def __init__(self, connection: Connection, namespace: str, name: str, *, duration: float) -> None:
        """`duration` in seconds is told to those who look at the object."""
        self._connection = connection
        self._metadata = {"namespace": namespace, "name": name}
        self._duration = duration
        self._read: Manifest | None = None

    def __str__(self) -> str:
        """Return namespace and name."""
        return "{namespace}/{name}".format(**self._metadata)

    async def read(self) -> Record | None:
        """Return the record, or None where there is none."""
        try:
            self._read = await self._connection.request("get", "get", LEASE, *self._address)
        except NotFoundError:
            self._read = None
        return _record(self._read) if self._read else None

    async def write(self, holder: str) -> Record:
        """Put a holder, or "" for nobody, into the record that was last read or written."""
        body = self._written(holder, self._read)
        if self._read is None:
            namespace, _ = self._address
            self._read = await self._connection.request("post", "create", LEASE, namespace, body=body)
        else:
            self._read = await self._connection.request("put", "update", LEASE, *self._address, body=body)
        return _record(self._read)

    @property
    def _address(self) -> tuple[str, str]:
        return self._metadata["namespace"], self._metadata["name"]

    def _written(self, holder: str, before: Manifest | None) -> Manifest:
        metadata = before["metadata"] if before else self._metadata
        former = before.get("spec", {}) if before else {}
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {**former, "holderIdentity": holder, "leaseDurationSeconds": round(self._duration), "renewTime": now}
        if holder and holder != former.get("holderIdentity"):
            spec |= {"acquireTime": now, "leaseTransitions": former.get("leaseTransitions", 0) + 1}
        return {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": spec}


def _record(lease: Manifest) -> Record:
    holder = lease.get("spec", {}).get("holderIdentity") or ""
    return Record(holder, lease["metadata"]["resourceVersion"])
