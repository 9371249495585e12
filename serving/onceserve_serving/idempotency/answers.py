"""The kept answers of a server: their store, what renews claims on it, and what removes old answers."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Iterator
from typing import Final

from onceserve_serving.admission import Capacity
from onceserve_serving.errors import InvalidSettingsError, StoreRefusedError
from onceserve_serving.idempotency.guard import Guard, Terms
from onceserve_serving.idempotency.renewal import Renewal
from onceserve_serving.idempotency.store import Store, StoreUnavailableError
from onceserve_serving.idempotency.stores import check_type, has_ledger, open_store
from onceserve_serving.settings import Settings
from onceserve_serving.telemetry import Telemetry

log = logging.getLogger(__name__)

SWEEP: Final = 60.0
"""Seconds between two sweeps, more or less: several servers share a store."""


CLOSING: Final = 1.0
"""Seconds that the store has to end what it does: what tells the server to stop does not wait for long."""


class Answers:
    """A store in use."""

    def __init__(self, store: Store, terms: Terms, telemetry: Telemetry) -> None:
        self._store = store
        self._renewal = Renewal(store, terms.lease)
        self._sweeping: asyncio.Task[None] | None = None
        self.guard = Guard(store, self._renewal, terms, telemetry)

    async def open(self) -> None:
        """Begin to use the store; raises StoreRefusedError if it is not one to rely on.

        A store that cannot be reached is tried again by each request.
        """
        try:
            with _refusing():
                warnings = await self._store.open()
            for warning in warnings:
                log.warning("%s", warning)
        except StoreUnavailableError as error:
            log.error("the store of idempotency cannot be reached, requests with a key are refused: %s", error)  # noqa: TRY400
        self._renewal.start()
        self._sweeping = asyncio.create_task(self._sweep())

    async def close(self) -> None:
        """End what goes on, and disconnect; a store that hangs is left as it is after `CLOSING` seconds."""
        try:
            async with asyncio.timeout(CLOSING):
                await self._end()
        except TimeoutError:
            log.warning("the store of idempotency does not let go, and was left")

    async def _end(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeping
            await asyncio.to_thread(self._renewal.stop, CLOSING)
        await self._store.close()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP * random.uniform(0.5, 1.5))  # noqa: S311
            try:
                swept = await self._store.sweep()
            except Exception as error:
                log.warning("answers that are kept no longer could not be removed: %s", error)
            else:
                log.debug("removed %d answers that are kept no longer", swept)


def from_settings(settings: Settings, capacity: Capacity, telemetry: Telemetry) -> Answers | None:
    """Return what the settings ask for, None without a store; raises StoreRefusedError.

    `capacity` is a model's, and bounds those whom none takes as well.
    """
    if not settings.idempotency_store or settings.idempotency_mode == "disabled":
        return None
    terms = Terms(
        lease=settings.idempotency_lease,
        retention=settings.idempotency_retention,
        fail_open=settings.idempotency_when_store_fails == "fail-open",
        ledger=has_ledger(settings.idempotency_store),
        recalls=capacity,
    )
    if not settings.idempotency_scope:
        log.info("no --idempotency-scope: keys are unique by caller and route alone among all who use this store")
    with _refusing():
        check_type(settings.idempotency_store, settings.idempotency_store_type)
        return Answers(open_store(settings.idempotency_store), terms, telemetry)


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Tell settings of the store from all others: they are mended elsewhere."""
    try:
        yield
    except InvalidSettingsError as error:
        raise StoreRefusedError(str(error)) from error
