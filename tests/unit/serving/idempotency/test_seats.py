"""Who waits long for the store gives its seat to others, and takes one again."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import pytest

from onceserve_serving.admission import Admission, Capacity
from onceserve_serving.idempotency import seats as module
from onceserve_serving.idempotency.seats import LONG, Seat, Seats
from onceserve_serving.idempotency.store import StoreUnavailableError
from unit.serving.idempotency import virtual
from unit.serving.idempotency.virtual import Loop

Play: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    """Runs what happens in a time that passes at once."""
    loop = Loop()
    monkeypatch.setattr(module, "time", loop)

    def run(story: Coroutine[Any, Any, None]) -> None:
        virtual.run(story, loop)
        assert loop.failures == []

    return run


@pytest.fixture
def door() -> Admission:
    """Lets two in, and as many wait, with 100 bytes."""
    return Admission(Capacity(2, 2, 100), lambda _: None)


class Waiter:
    """A request of so many bytes that has entered, and waits for the store until it is told to go on."""

    def __init__(self, seats: Seats, door: Admission, size: int = 1) -> None:
        assert door.enter_now()
        self._seat = Seat(seats, door, size)
        self._answered = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._wait())

    async def _wait(self) -> None:
        with self._seat:
            await self._answered.wait()

    async def goes_on(self) -> None:
        self._answered.set()
        await self.task


def test_who_waits_long_gives_its_seat_to_others_and_takes_one_again(play: Play, door: Admission) -> None:
    async def story() -> None:
        one = Waiter(Seats(), door)
        await asyncio.sleep(0.9 * LONG)
        assert (door.active, door.aside) == (1, 0)
        await asyncio.sleep(0.2 * LONG)
        assert (door.active, door.aside) == (0, 1)
        assert door.enter_now()
        assert door.enter_now()
        await one.goes_on()
        assert (door.active, door.aside) == (3, 0)
        assert not door.enter_now()

    play(story())


def test_each_is_given_its_own_time(play: Play, door: Admission) -> None:
    async def story() -> None:
        seats = Seats()
        for _ in range(5):
            one = Waiter(seats, door)
            await asyncio.sleep(0.8 * LONG)
            assert (door.active, door.aside) == (1, 0)
            await one.goes_on()
            door.leave()
        first = Waiter(seats, door)
        await asyncio.sleep(0.6 * LONG)
        second = Waiter(seats, door)
        await asyncio.sleep(0.6 * LONG)
        assert (door.active, door.aside) == (1, 1)
        await asyncio.sleep(0.6 * LONG)
        assert (door.active, door.aside) == (0, 2)
        await asyncio.gather(first.goes_on(), second.goes_on())

    play(story())


def test_while_one_is_aside_others_step_aside_at_once_until_as_many_wait_as_may(play: Play, door: Admission) -> None:
    async def story() -> None:
        seats = Seats()
        waiting = [Waiter(seats, door)]
        await asyncio.sleep(2 * LONG)
        another = Seat(seats, door, 1)
        another.check_room()
        waiting.append(Waiter(seats, door))
        await asyncio.sleep(0)
        assert (door.active, door.aside) == (0, 2)
        with pytest.raises(StoreUnavailableError, match="as many wait for it as may; it was not asked"):
            another.check_room()
        for one in waiting:
            await one.goes_on()
        another.check_room()
        assert (door.active, door.aside) == (2, 0)

    play(story())


def test_what_they_hold_in_bytes_has_a_limit(play: Play, door: Admission) -> None:
    async def story() -> None:
        seats = Seats()
        Seat(seats, door, 10**9).check_room()
        large = Waiter(seats, door, 60)
        await asyncio.sleep(2 * LONG)
        Seat(seats, door, 40).check_room()
        with pytest.raises(StoreUnavailableError):
            Seat(seats, door, 41).check_room()
        await large.goes_on()

    play(story())


def test_who_is_cancelled_leaves_nothing_behind(play: Play, door: Admission) -> None:
    async def story() -> None:
        seats = Seats()
        one = Waiter(seats, door)
        await asyncio.sleep(2 * LONG)
        one.task.cancel()
        await asyncio.wait({one.task})
        assert (door.active, door.aside) == (1, 0)
        with Seat(seats, door, 1):
            assert door.active == 1

    play(story())
