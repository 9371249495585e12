"""Equal requests that meet in this process: one runs, the others have its answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from onceserve_serving.errors import DeadlineExceededError, InProgressError
from onceserve_serving.idempotency.confirming import GivenUpError, UnconfirmedError
from onceserve_serving.idempotency.record import Fingerprint

T = TypeVar("T")

SOON = 1.0
"""Seconds after which to ask again for the answer to a request that runs."""

NO_ANSWER: Final = (DeadlineExceededError, GivenUpError)
"""Ends of a flight that say nothing to those who joined it: a time that was too short was another's."""


class Flights(Generic[T]):
    """The requests with a key that are on their way; nobody's leaving ends one.

    Another request with the same key is a flight of its own: whose key it is, only the store knows.
    """

    def __init__(self) -> None:
        self._flights: dict[tuple[bytes, Fingerprint], asyncio.Task[T]] = {}

    async def join(
        self, record: bytes, fingerprint: Fingerprint, deadline: float, run: Callable[[], Awaitable[T]]
    ) -> tuple[T, bool]:
        """Return the answer, and whether another's run gave it; it goes on when the caller is cancelled.

        Raises what the run raises, InProgressError if another's run has not ended by the deadline (`time.monotonic()`).
        """
        flight = record, fingerprint
        while (task := self._flights.get(flight)) is not None:
            done, _ = await asyncio.wait({task}, timeout=max(deadline - time.monotonic(), 0))
            if not done:
                raise InProgressError(SOON)
            if not isinstance(task.exception(), NO_ANSWER):
                return task.result(), True
        return await asyncio.shield(self._begin(flight, run)), False

    async def landed(self) -> None:
        """Return when nothing is on its way."""
        while self._flights:
            await asyncio.wait(self._flights.values())

    def _begin(self, flight: tuple[bytes, Fingerprint], run: Callable[[], Awaitable[T]]) -> "asyncio.Task[T]":
        async def fly() -> T:
            later: Awaitable[T] | None = None
            try:
                return await run()
            except UnconfirmedError as error:
                later = error.later
                raise error.failure from error.failure.__cause__
            finally:
                del self._flights[flight]
                # Who asks meanwhile joins what goes on.
                if later is not None:
                    self._begin(flight, lambda: later)

        task = asyncio.get_running_loop().create_task(fly())
        # Whoever asked may have left: its error is told to who asks next, by the store.
        task.add_done_callback(_retrieve)
        self._flights[flight] = task
        return task


def _retrieve(task: "asyncio.Task[T]") -> None:
    if not task.cancelled():
        task.exception()
