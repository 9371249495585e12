"""Keeps leases from ending while their requests run, in a thread of its own: a loop that is held up must lose none."""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from onceserve_serving.idempotency.store import Store

log = logging.getLogger(__name__)

SHARE: Final = 3
"""Renewals within the time of a lease, so that two may fail."""


class Renewal:
    """Renews what is held, over a connection of its own."""

    def __init__(self, store: Store, lease: float) -> None:
        self._store = store
        self._lease = lease
        self._held: dict[tuple[bytes, bytes], float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease renewal", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Renew nothing any more; waits for the renewals that are on their way."""
        self._stopping.set()
        self._thread.join()

    @contextmanager
    def holding(self, record: bytes, claim_id: bytes) -> Iterator[None]:
        """Keep a claim that has just been granted, for the time of the block."""
        self._held[record, claim_id] = time.monotonic()
        try:
            yield
        finally:
            del self._held[record, claim_id]

    def _run(self) -> None:
        asyncio.run(self._renew_until_stopped())

    async def _renew_until_stopped(self) -> None:
        store = self._store.twin()
        while not self._stopping.wait(self._lease / SHARE / 2):
            await self._renew_due(store)
        await store.close()

    async def _renew_due(self, store: Store) -> None:
        due = time.monotonic() - self._lease / SHARE
        # The loop's thread changes it meanwhile.
        held = [claim for claim, since in list(self._held.items()) if since <= due]
        await asyncio.gather(*(self._renew(store, *claim) for claim in held))

    async def _renew(self, store: Store, record: bytes, claim_id: bytes) -> None:
        asked = time.monotonic()
        try:
            kept = await store.renew(record, claim_id, self._lease)
        except Exception as error:
            log.warning("a lease could not be renewed: %s", error)
            return
        if kept and (record, claim_id) in self._held:
            self._held[record, claim_id] = asked
