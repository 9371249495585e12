"""Requests that a slow store keeps waiting step aside, so that those without a key are answered meanwhile."""

import asyncio
import time
from typing import Final

from onceserve_serving.admission import Admission
from onceserve_serving.idempotency.store import StoreUnavailableError

LONG: Final = 0.25
"""Seconds after which a request that waits for the store gives its seat to another: many times what a store takes."""


class Seats:
    """Watches the requests that wait for one store: who waits long steps aside, and while any is, others do at once."""

    def __init__(self) -> None:
        self.aside = 0
        # In the order in which they began to wait.
        self.waiting: dict[Seat, None] = {}
        self.is_watched = False

    def look_after(self, seconds: float) -> None:
        """Look then who has waited long: one timer for all, since most are answered long before one of their own."""
        self.is_watched = True
        asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        self.is_watched = False
        now = time.monotonic()
        for seat in list(self.waiting):
            if (left := seat.since + LONG - now) > 0:
                self.look_after(left)
                return
            del self.waiting[seat]
            seat.step_aside()


class Seat:
    """The seat of a request of so many bytes that was let in; for the duration of a block it waits for the store."""

    __slots__ = ("_admission", "_is_aside", "_seats", "_size", "since")

    since: float

    def __init__(self, seats: Seats, admission: Admission, size: int) -> None:
        self._seats = seats
        self._admission = admission
        self._size = size
        self._is_aside = False

    def check_room(self) -> None:
        """Raise StoreUnavailableError if as many wait aside as may."""
        if self._seats.aside and not self._admission.has_room_aside(self._size):
            raise StoreUnavailableError("the store is slow, and as many wait for it as may; it was not asked")

    def __enter__(self) -> None:
        seats = self._seats
        if seats.aside:
            self.step_aside()
            return
        self.since = time.monotonic()
        seats.waiting[self] = None
        if not seats.is_watched:
            seats.look_after(LONG)

    def __exit__(self, *_: object) -> None:
        if self._is_aside:
            self._come_back()
        else:
            del self._seats.waiting[self]

    def step_aside(self) -> None:
        """Leave the seat to another."""
        self._is_aside = True
        self._seats.aside += 1
        self._admission.step_aside(self._size)

    def _come_back(self) -> None:
        self._is_aside = False
        self._seats.aside -= 1
        self._admission.come_back(self._size)
