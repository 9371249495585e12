"""Keeps leases from ending while their requests run, in a thread of its own: a loop that is held up must lose none."""

import asyncio
import logging
import threading
import time
from dataclasses import dataclass
from typing import Final

from onceserve_serving.idempotency.store import Store

log = logging.getLogger(__name__)

SHARE: Final = 3
"""Renewals within the time of a lease, so that two may fail."""


@dataclass(slots=True, eq=False)
class Held:
    """A claim, held for the time of a block, and the `time.monotonic()` at which its lease was last asked for.

    It may be held by one block after another.
    """

    record: bytes
    claim_id: bytes
    since: float
    all_held: "dict[Held, None]"

    def __enter__(self) -> None:
        self.all_held[self] = None

    def __exit__(self, *_: object) -> None:
        del self.all_held[self]


class Renewal:
    """Renews what is held, over a connection of its own."""

    def __init__(self, store: Store, lease: float) -> None:
        self._store = store
        self._lease = lease
        # In the order in which they were granted; the loop's thread changes it while this one looks.
        self._held: dict[Held, None] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease renewal", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, patience: float) -> None:
        """Renew nothing any more; waits so many seconds for the renewals that are on their way."""
        self._stopping.set()
        self._thread.join(patience)

    def holding(self, record: bytes, claim_id: bytes) -> Held:
        """Keep a claim that has just been granted, for the time of the block."""
        return Held(record, claim_id, time.monotonic(), self._held)

    def lasts(self, held: Held) -> bool:
        """Tell whether the lease cannot have ended, by the last renewal that the store confirmed."""
        return time.monotonic() < held.since + self._lease

    def _run(self) -> None:
        asyncio.run(self._renew_until_stopped())

    async def _renew_until_stopped(self) -> None:
        store = self._store.twin()
        while not self._stopping.wait(self._lease / SHARE / 2):
            await self._renew_due(store)
        await store.close()

    async def _renew_due(self, store: Store) -> None:
        due = time.monotonic() - self._lease / SHARE
        await asyncio.gather(*(self._renew(store, held) for held in self._held.copy() if held.since <= due))

    async def _renew(self, store: Store, held: Held) -> None:
        asked = time.monotonic()
        try:
            if await store.renew(held.record, held.claim_id, self._lease):
                held.since = asked
        except Exception as error:
            log.warning("a lease could not be renewed: %s", error)
