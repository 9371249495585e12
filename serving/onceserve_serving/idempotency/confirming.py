"""Answers that the store has not confirmed: what a model has computed is not thrown away for a store that fails."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from onceserve_serving.errors import OnceServeError, StoreFailedError
from onceserve_serving.idempotency.calls import Calls
from onceserve_serving.idempotency.record import UnreadableRecordError
from onceserve_serving.idempotency.renewal import Held, Renewal
from onceserve_serving.idempotency.store import (
    Committed,
    Completion,
    Store,
    StoreUnavailableError,
    UnknownOutcomeError,
)

T = TypeVar("T")

log = logging.getLogger(__name__)

PAUSE: Final = 0.5
"""Seconds before each further try."""

MOST: Final = 1024
MOST_BYTES: Final = 64 * 2**20
"""Answers that may wait for the store, and the bytes of their bodies."""


class UnconfirmedError(StoreFailedError, Generic[T]):
    """The store did not confirm an answer in time. `failure` is what those who asked are told.

    `later` gives the answer once the store has it, or raises GivenUpError.
    """

    def __init__(self, failure: StoreFailedError, later: "asyncio.Task[T]") -> None:
        super().__init__(str(failure), failure.retry_after)
        self.failure = failure
        self.later = later


class GivenUpError(OnceServeError):
    """An answer will never be given: who waits for it asks anew."""


class Confirming(Generic[T]):
    """Goes on completing when nobody waits for it any more, while the claim is held."""

    def __init__(self, store: Store, renewal: Renewal, calls: Calls) -> None:
        self._store = store
        self._renewal = renewal
        self._calls = calls
        self._sizes: dict[asyncio.Task[T], int] = {}

    def begin(self, held: Held, completion: Completion, size: int, answer: Callable[[], T]) -> "asyncio.Task[T] | None":
        """Return what gives the answer, of `size` bytes, once the store has it; None if as many wait as may."""
        if len(self._sizes) >= MOST or sum(self._sizes.values()) + size > MOST_BYTES:
            log.error("an answer is lost: the store does not take it, and %d wait already", len(self._sizes))
            return None
        task = asyncio.get_running_loop().create_task(self._confirm(held, completion, answer))
        self._sizes[task] = size
        task.add_done_callback(self._ended)
        return task

    async def _confirm(self, held: Held, completion: Completion, answer: Callable[[], T]) -> T:
        with held:
            while self._renewal.lasts(held):
                await asyncio.sleep(PAUSE)
                try:
                    told = await self._calls.once("complete", lambda: self._store.complete(completion))
                except (UnknownOutcomeError, StoreUnavailableError):
                    continue
                except UnreadableRecordError as error:
                    raise GivenUpError(str(error)) from error
                if isinstance(told, Committed):
                    return answer()
                raise GivenUpError("the claim is another's")
        log.error("an answer is lost: the store did not take it while its lease lasted")
        raise GivenUpError("its lease has ended")

    def _ended(self, task: "asyncio.Task[T]") -> None:
        del self._sizes[task]
        if not task.cancelled():
            task.exception()
