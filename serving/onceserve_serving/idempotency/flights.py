"""Equal requests that meet in this process: one runs, the others have its answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from onceserve_serving.errors import DeadlineExceededError, InProgressError, KeyMismatchError
from onceserve_serving.idempotency.record import Fingerprint

T = TypeVar("T")

SOON = 1.0
"""Seconds after which to ask again for the answer to a request that runs."""


@dataclass(frozen=True, slots=True, eq=False)
class Flight(Generic[T]):
    """A request on its way; nobody's leaving ends it."""

    fingerprint: Fingerprint
    task: "asyncio.Task[T]"


class Flights(Generic[T]):
    """The requests with a key that are on their way."""

    def __init__(self) -> None:
        self._flights: dict[bytes, Flight[T]] = {}

    async def join(
        self, record: bytes, fingerprint: Fingerprint, deadline: float, run: Callable[[], Awaitable[T]]
    ) -> tuple[T, bool]:
        """Return the answer, and whether another's run gave it; it goes on when the caller is cancelled.

        Raises what the run raises, KeyMismatchError if the key is used for another request, InProgressError if
        another's run has not ended by the deadline (`time.monotonic()`).
        """
        while (flight := self._flights.get(record)) is not None:
            if not flight.fingerprint.is_of(fingerprint):
                raise KeyMismatchError
            done, _ = await asyncio.wait({flight.task}, timeout=max(deadline - time.monotonic(), 0))
            if not done:
                raise InProgressError(SOON)
            # Whose time was too short says nothing of those who have more.
            if not isinstance(flight.task.exception(), DeadlineExceededError):
                return flight.task.result(), True
        return await asyncio.shield(self._begin(record, fingerprint, run)), False

    async def landed(self) -> None:
        """Return when nothing is on its way."""
        while self._flights:
            await asyncio.wait([flight.task for flight in self._flights.values()])

    def _begin(self, record: bytes, fingerprint: Fingerprint, run: Callable[[], Awaitable[T]]) -> "asyncio.Task[T]":
        async def fly() -> T:
            try:
                return await run()
            finally:
                del self._flights[record]

        task = asyncio.get_running_loop().create_task(fly())
        # Whoever asked may have left: its error is told to who asks next, by the store.
        task.add_done_callback(_retrieve)
        self._flights[record] = Flight(fingerprint, task)
        return task


def _retrieve(task: "asyncio.Task[T]") -> None:
    if not task.cancelled():
        task.exception()
