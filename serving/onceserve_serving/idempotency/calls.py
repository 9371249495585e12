"""Calls to a store, repeated until their outcome is known."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from onceserve_serving.errors import StoreFailedError
from onceserve_serving.idempotency.breaker import Breaker
from onceserve_serving.idempotency.record import UnreadableRecordError
from onceserve_serving.idempotency.store import StoreUnavailableError, UnknownOutcomeError
from onceserve_serving.telemetry import Telemetry

R = TypeVar("R")

log = logging.getLogger(__name__)

AGAIN: Final[Sequence[float]] = (0.0, 0.05, 0.2, 0.5)
"""Seconds before each try of a call to the store whose outcome is not known."""

PATIENCE: Final = 3.0
"""Seconds after which such a call is not tried again: each try of a store that hangs takes its whole timeout."""

STORE_RETRY: Final = 1.0


class Calls:
    """Makes calls, and notes how the store does."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._breaker = Breaker()

    def check(self) -> None:
        """Raise StoreUnavailableError if the store would only be waited for in vain."""
        if self._breaker.is_open:
            raise StoreUnavailableError("the store has not answered for a while; it was not asked")

    async def until_known(self, operation: str, call: Callable[[], Awaitable[R]]) -> R:
        """Repeat a call until its outcome is known.

        Raises StoreFailedError, or StoreUnavailableError if certainly nothing was written; a completion is tried again
        even then.
        """
        unknown: Exception | None = None
        give_up_at = time.monotonic() + PATIENCE
        for pause in AGAIN:
            if unknown is not None and time.monotonic() >= give_up_at:
                break
            if pause:
                await asyncio.sleep(pause)
            try:
                return await self.once(operation, call)
            except (UnknownOutcomeError, StoreUnavailableError) as error:
                # After a try whose outcome is not known, one that certainly wrote nothing says nothing of it.
                certain = unknown is None and isinstance(error, StoreUnavailableError)
                if certain and operation != "complete":
                    self._breaker.failed()
                    raise
                unknown = error
            except UnreadableRecordError as error:
                raise failed(error) from error
        self._breaker.failed()
        raise failed(unknown) from unknown

    async def once(self, operation: str, call: Callable[[], Awaitable[R]]) -> R:
        """Make a call; raises what the store raises."""
        started = time.perf_counter()
        try:
            answer = await call()
        finally:
            self._telemetry.store_answered(operation, time.perf_counter() - started)
        self._breaker.succeeded()
        return answer


def failed(error: Exception | None) -> StoreFailedError:
    """Return what callers are told of a store that failed; the details are for the log."""
    log.error("the store of idempotency failed: %s", error)
    return StoreFailedError(
        "the store that keeps the answers does not answer; whether this request was answered is not known, "
        "and it may be sent again with the same key",
        STORE_RETRY,
    )
