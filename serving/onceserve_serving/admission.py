"""How many requests are worked on and how many wait; beyond that a refusal at once.

Who waits long for something else than the model steps aside meanwhile, so that it holds up nobody.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from onceserve_serving.errors import OverloadedError, too_late

WEIGHT: Final = 0.05
"""Share of the newest interval in the estimated interval between two answers."""

SOONEST: Final = 1.0
LATEST: Final = 60.0
"""Seconds between which Retry-After stays, whatever the estimate."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """Requests worked on at a time, requests that may wait (as many again aside), and the bytes that these may have."""

    concurrency: int
    queue: int
    queue_bytes: int


class Admission:
    """The door to one model. Who has entered must leave.

    `rejected` is told the reason of each refusal: queue, bytes or deadline.
    """

    def __init__(self, capacity: Capacity, rejected: Callable[[str], None]) -> None:
        self.active = 0
        self.aside = 0
        self.queued_bytes = 0
        self._aside_bytes = 0
        self._capacity = capacity
        self._rejected = rejected
        self._queue: OrderedDict[asyncio.Future[None], int] = OrderedDict()
        self._interval = 0.0
        self._left_at = 0.0

    @property
    def queued(self) -> int:
        """How many requests wait."""
        return len(self._queue)

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

    def has_room_aside(self, size: int) -> bool:
        """Tell whether one more request of so many bytes may step aside; the first always may."""
        capacity = self._capacity
        return not self.aside or (self.aside < capacity.queue and self._aside_bytes + size <= capacity.queue_bytes)

    def step_aside(self, size: int) -> None:
        """Let another in while a request of so many bytes waits for something else than the model."""
        self.aside += 1
        self._aside_bytes += size
        self.active -= 1
        self._let_in()

    def come_back(self, size: int) -> None:
        """Go on after that, at once: nobody else enters before there is room again."""
        self.aside -= 1
        self._aside_bytes -= size
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

    def retry_after(self) -> float:
        """Return the seconds after which there will be room, by the rate of the recent answers."""
        return min(max(self._interval * (len(self._queue) + 1), SOONEST), LATEST)

    async def _wait(self, size: int, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._queue[turn] = size
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
        full = len(self._queue) >= self._capacity.queue
        if full or self.queued_bytes + size > self._capacity.queue_bytes:
            self._rejected("queue" if full else "bytes")
            raise OverloadedError(
                f"{self.active} requests are being worked on and {len(self._queue)} wait ({self.queued_bytes} bytes), "
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
        self.queued_bytes -= self._queue.pop(turn, 0)

    def _note_interval(self) -> None:
        now = time.monotonic()
        if self._left_at:
            interval = now - self._left_at
            self._interval += (WEIGHT if self._interval else 1.0) * (interval - self._interval)
        self._left_at = now
