"""The ledger: one row for each answer, written with it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol


class LedgerRow(NamedTuple):
    """What a row of the ledger says beyond what the store knows by itself."""

    tenant: str
    model: str
    model_digest: str
    revision: str

    def check(self) -> None:
        """Raise ValueError for what no database takes as text, so that the rows beside it are written."""
        if "\0" in "".join(self).encode().decode():
            raise ValueError("a row of the ledger has a NUL character")


class LedgerEntry(NamedTuple):
    """One answer. `record` is the hash of its scope and key, `request` the fingerprint of what was asked."""

    id: int
    record: bytes
    request: bytes
    tenant: str
    model: str
    model_digest: str
    revision: str
    attempt: int
    fence: int
    status: int
    started_at: datetime
    completed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFilter:
    """Which entries are wanted; what is not given is not looked at. Times: completed at or after, and before."""

    tenant: str | None = None
    model: str | None = None
    record: bytes | None = None
    since: datetime | None = None
    until: datetime | None = None


class Ledger(Protocol):
    """The ledger of a store, to be read; what reads it changes nothing."""

    async def open(self) -> None:
        """Connect; raises InvalidSettingsError if there is none or it may not be read, and StoreUnavailableError."""

    def entries(self, wanted: LedgerFilter) -> AsyncIterator[LedgerEntry]:
        """Yield the entries in the order of their numbers, which may have gaps; raises StoreUnavailableError."""

    async def close(self) -> None:
        """Disconnect."""
