"""Requests that a slow store keeps waiting step aside, so that those without a key are answered meanwhile."""

import asyncio
import time
from collections.abc import Awaitable
from typing import Final, Self, TypeVar

from onceserve_serving.admission import Admission

R = TypeVar("R")

LONG: Final = 0.25
"""Seconds after which a request that waits for the store gives its seat to another: many times what a store takes."""


class Seats:
    """Watches the requests that wait for one store: who waits long steps aside, and while any is, others do at once."""

    def __init__(self) -> None:
        # Since when they wait in their seats, in the order in which they began.
        self.waiting: dict[Seat, float] = {}
        self.aside: set[Seat] = set()
        self._is_watched = False

    def watch(self, seat: "Seat") -> None:
        """Note that a request begins to wait in its seat."""
        self.waiting[seat] = time.monotonic()
        if not self._is_watched:
            self._look_after(LONG)

    def _look_after(self, seconds: float) -> None:
        # One timer for all, since most are answered long before one of their own.
        self._is_watched = True
        asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        self._is_watched = False
        now = time.monotonic()
        for seat, since in list(self.waiting.items()):
            if (left := since + LONG - now) > 0:
                self._look_after(left)
                return
            del self.waiting[seat]
            seat.wait_aside()


class Seat:
    """The seat of a request with a key and of so many bytes that was let in, for the time that it is in hand.

    To enter raises StoreBusyError if as many are in hand as may, so that each of them may step aside.
    """

    __slots__ = ("_admission", "_is_aside", "_seats", "_size")

    def __init__(self, seats: Seats, admission: Admission, size: int) -> None:
        self._seats = seats
        self._admission = admission
        self._size = size
        self._is_aside = False

    def __enter__(self) -> Self:
        self._admission.keyed.take(self._size)
        return self

    def __exit__(self, *_: object) -> None:
        self._admission.keyed.give_back(self._size)
        if self._is_aside:
            self._admission.come_back_to_leave()

    async def wait(self, answer: Awaitable[R]) -> R:
        """Return the store's answer, and leave the seat to others if it takes long; it may be gone afterwards."""
        seats = self._seats
        if self._is_aside or seats.aside:
            self.wait_aside()
        else:
            seats.watch(self)
        try:
            return await answer
        finally:
            seats.waiting.pop(self, None)
            seats.aside.discard(self)

    async def take_again(self, deadline: float) -> None:
        """Return in a seat, one's own or the next that is free; raises DeadlineExceededError if it took too long."""
        if self._is_aside:
            await self._admission.come_back(deadline)
            self._is_aside = False

    def wait_aside(self) -> None:
        """Leave the seat to another, and wait on."""
        self._seats.aside.add(self)
        if not self._is_aside:
            self._is_aside = True
            self._admission.step_aside()
