"""The ledger in PostgreSQL, for those who read it."""

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Final

from onceserve_serving.idempotency.ledger import Ledger, LedgerEntry, LedgerFilter
from onceserve_serving.idempotency.postgresql_link import LedgerDatabase, Session, sql

LEDGER: Final = sql("ledger")

ENTRIES: Final = 1000
"""Entries that one statement fetches."""


class PostgresqlLedger(Ledger):
    """Fetches page after page; changes nothing, not even a schema that is not up to date."""

    def __init__(self, url: str, timeout: float) -> None:
        self._database = LedgerDatabase(url, timeout)

    async def open(self) -> None:
        """Connect, and check that there is a ledger that may be read."""
        await self._database.open()

    async def entries(self, wanted: LedgerFilter) -> AsyncIterator[LedgerEntry]:
        """Yield the entries in the order of their numbers, which may have gaps."""
        last = 0
        while page := await self._database.run(partial(_entries, wanted), last):
            for entry in page:
                yield entry
            last = page[-1].id

    async def close(self) -> None:
        """Disconnect."""
        await self._database.close()


async def _entries(wanted: LedgerFilter, session: Session, after: int) -> Sequence[LedgerEntry]:
    rows = await session.fetch(
        LEDGER, after, wanted.tenant, wanted.model, wanted.record, wanted.since, wanted.until, ENTRIES
    )
    return [LedgerEntry(*row) for row in rows]
