"""How many requests are worked on and how many wait; beyond that a refusal at once.

Who waits long for something else than the model steps aside meanwhile, so that it holds up nobody.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from onceserve_serving.errors import OverloadedError, StoreBusyError, too_late

WEIGHT: Final = 0.05
"""Share of the newest interval in the estimated interval between two answers."""

SOONEST: Final = 1.0
LATEST: Final = 60.0
"""Seconds between which Retry-After stays, whatever the estimate."""

JUST_NOW: Final = 0.1
"""Seconds for which a refusal for want of room shows that more come than can be answered."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """Requests worked on at a time, requests that may wait, and the bytes that these may have."""

    concurrency: int
    queue: int
    queue_bytes: int


class Room:
    """Room for requests with a key: as much as there is for all that are worked on and wait for their turn.

    Who has taken a place must give it back. `rejected` is told of each refusal, for which the reason is the store.
    """

    def __init__(self, capacity: Capacity, rejected: Callable[[str], None]) -> None:
        self._capacity = capacity
        self._rejected = rejected
        self._taken = 0
        self._bytes = 0

    def take(self, size: int) -> None:
        """Take a place for a request of so many bytes, or raise StoreBusyError."""
        capacity = self._capacity
        beyond = self._taken - capacity.concurrency
        # As at the door: the first are taken whatever their bytes.
        if beyond >= 0 and (beyond >= capacity.queue or self._bytes + size > capacity.queue_bytes):
            self._rejected("store")
            raise StoreBusyError
        self._taken += 1
        self._bytes += size

    def give_back(self, size: int) -> None:
        """Give the place of such a request back."""
        self._taken -= 1
        self._bytes -= size


class Admission:
    """The door to one model. Who has entered must leave; who may step aside has a place in `keyed`.

    `rejected` is told the reason of each refusal: queue, bytes, deadline, or store.
    """

    def __init__(self, capacity: Capacity, rejected: Callable[[str], None]) -> None:
        self.active = 0
        self.aside = 0
        self.queued = 0
        self.queued_bytes = 0
        self.keyed = Room(capacity, rejected)
        self._capacity = capacity
        self._rejected = rejected
        # The bytes of those who came; None for those who come back, who have taken their room before.
        self._queue: OrderedDict[asyncio.Future[None], int | None] = OrderedDict()
        self._interval = 0.0
        self._left_at = 0.0
        self._full_at = -math.inf

    def enter_now(self) -> bool:
        """Enter if nobody has to wait; tell whether that was so."""
        if not self._is_open():
            return False
        self.active += 1
        return True

    async def enter(self, size: int, deadline: float) -> None:
        """Enter as soon as it is this request's turn; `size` is its bytes, `deadline` a `time.monotonic()`.

        Raises OverloadedError at once if there is no room to wait, DeadlineExceededError if it took too long.
        """
        if not self.enter_now():
            self.check_room(size)
            await self._wait(size, deadline)

    def check_room(self, size: int) -> None:
        """Raise OverloadedError if a request of so many bytes could neither enter nor wait."""
        if not self._is_open():
            self._check_queue(size)

    def leave(self) -> None:
        """Leave, and let in who has waited longest."""
        self.active -= 1
        if self._queue:
            self._note_interval()
            self._let_in()
        else:
            self._left_at = 0.0

    def step_aside(self) -> None:
        """Let another in while a request waits for something else than the model."""
        self.aside += 1
        self.active -= 1
        self._let_in()

    async def come_back(self, deadline: float) -> None:
        """Go on after that as soon as it is this request's turn among those who came meanwhile.

        Raises DeadlineExceededError if it took too long; then it still is aside.
        """
        if not self.enter_now():
            await self._wait(None, deadline)
        self.aside -= 1

    def come_back_to_leave(self) -> None:
        """End being aside right before leaving, so that there is nobody whom it could keep out."""
        self.aside -= 1
        self.active += 1

    def check_time(self, deadline: float) -> None:
        """Raise DeadlineExceededError if it is too late to begin."""
        if time.monotonic() >= deadline:
            self._rejected("deadline")
            raise too_late()

    async def drained(self) -> None:
        """Return when nobody is in here, aside or waits."""
        # Only an unload asks, so that leaving does not have to tell anybody.
        while self.active or self.aside or self._queue:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def is_overrun(self) -> bool:
        """Tell whether more requests come than there is room for."""
        return time.monotonic() - self._full_at < JUST_NOW

    def retry_after(self) -> float:
        """Return the seconds after which there will be room, by the rate of the recent answers."""
        return min(max(self._interval * (len(self._queue) + 1), SOONEST), LATEST)

    async def _wait(self, size: int | None, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._queue[turn] = size
        if size is not None:
            self.queued += 1
            self.queued_bytes += size
        timer = loop.call_later(max(deadline - time.monotonic(), 0.0), self._expire, turn)
        try:
            await turn
        except asyncio.CancelledError:
            # Its turn may have come in the same moment, and the place must not be lost.
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.leave()
            raise
        finally:
            timer.cancel()
            self._forget(turn)

    def _is_open(self) -> bool:
        return not self._queue and self.active < self._capacity.concurrency

    def _check_queue(self, size: int) -> None:
        full = self.queued >= self._capacity.queue
        if full or self.queued_bytes + size > self._capacity.queue_bytes:
            self._full_at = time.monotonic()
            self._rejected("queue" if full else "bytes")
            raise OverloadedError(
                f"{self.active} requests are being worked on and {self.queued} wait ({self.queued_bytes} bytes), "
                f"which is as many as this server takes",
                self.retry_after(),
            )

    def _let_in(self) -> None:
        while self._queue and self.active < self._capacity.concurrency:
            turn = next(iter(self._queue))
            self._forget(turn)
            if not turn.done():
                self.active += 1
                turn.set_result(None)

    def _expire(self, turn: "asyncio.Future[None]") -> None:
        if not turn.done():
            self._forget(turn)
            self._rejected("deadline")
            turn.set_exception(too_late())

    def _forget(self, turn: "asyncio.Future[None]") -> None:
        size = self._queue.pop(turn, None)
        if size is not None:
            self.queued -= 1
            self.queued_bytes -= size

    def _note_interval(self) -> None:
        now = time.monotonic()
        if self._left_at:
            interval = now - self._left_at
            self._interval += (WEIGHT if self._interval else 1.0) * (interval - self._interval)
        self._left_at = now
