"""Who waits long for the store gives its seat to others, and takes one again."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import pytest

from onceserve_serving import admission as admission_module
from onceserve_serving.admission import Admission, Capacity
from onceserve_serving.errors import DeadlineExceededError, OverloadedError, StoreBusyError
from onceserve_serving.idempotency import seats as module
from onceserve_serving.idempotency.seats import LONG, Seat, Seats
from unit.serving.idempotency import virtual
from unit.serving.idempotency.virtual import Loop

Play: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]

PATIENCE = 100 * LONG


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    """Runs what happens in a time that passes at once."""
    loop = Loop()
    for timed in (module, admission_module):
        monkeypatch.setattr(timed, "time", loop)

    def run(story: Coroutine[Any, Any, None]) -> None:
        virtual.run(story, loop)
        assert loop.failures == []

    return run


@pytest.fixture
def door() -> Admission:
    """Lets two in, and as many wait, with 100 bytes."""
    return Admission(Capacity(2, 2, 100), lambda _: None)


class Keyed:
    """A request of so many bytes that enters, waits for the store, runs in a seat, and waits for the store again."""

    def __init__(self, seats: Seats, door: Admission, size: int = 1) -> None:
        self.claimed, self.ran, self.completed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.runs = False
        self.deadline = asyncio.get_running_loop().time() + PATIENCE
        self._seats, self._door, self._size = seats, door, size
        self.task = asyncio.get_running_loop().create_task(self._pass())

    async def _pass(self) -> None:
        await self._door.enter(self._size, self.deadline)
        try:
            with Seat(self._seats, self._door, self._size) as seat:
                await seat.wait(self.claimed.wait())
                await seat.take_again(self.deadline)
                self.runs = True
                await self.ran.wait()
                self.runs = False
                await seat.wait(self.completed.wait())
        finally:
            self._door.leave()

    async def claims(self) -> None:
        self.claimed.set()
        await settled()

    async def ends(self) -> None:
        for event in (self.claimed, self.ran, self.completed):
            event.set()
        await self.task

    @property
    def is_refused(self) -> bool:
        return self.task.done() and isinstance(self.task.exception(), StoreBusyError)


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def come(seats: Seats, door: Admission, *sizes: int) -> list[Keyed]:
    comers = [Keyed(seats, door, size) for size in sizes]
    await settled()
    return comers


def places(door: Admission) -> tuple[int, int, int]:
    """Return how many are in seats, wait for one, and are aside."""
    return door.active, door.queued, door.aside


def test_who_waits_long_gives_its_seat_to_others_and_takes_one_again(play: Play, door: Admission) -> None:
    async def story() -> None:
        [one] = await come(Seats(), door, 1)
        await asyncio.sleep(0.9 * LONG)
        assert places(door) == (1, 0, 0)
        await asyncio.sleep(0.2 * LONG)
        assert places(door) == (0, 0, 1)
        await one.claims()
        assert one.runs
        assert places(door) == (1, 0, 0)
        await one.ends()
        assert places(door) == (0, 0, 0)

    play(story())


def test_each_is_given_its_own_time(play: Play, door: Admission) -> None:
    async def story() -> None:
        seats = Seats()
        for _ in range(5):
            [one] = await come(seats, door, 1)
            await asyncio.sleep(0.8 * LONG)
            assert places(door) == (1, 0, 0)
            await one.ends()
        [first] = await come(seats, door, 1)
        await asyncio.sleep(0.6 * LONG)
        [second] = await come(seats, door, 1)
        await asyncio.sleep(0.6 * LONG)
        assert places(door) == (1, 0, 1)
        await asyncio.sleep(0.6 * LONG)
        assert places(door) == (0, 0, 2)
        await asyncio.gather(first.ends(), second.ends())

    play(story())


def test_who_comes_back_waits_for_its_turn_among_those_who_came_meanwhile(play: Play, door: Admission) -> None:
    async def story() -> None:
        [one] = await come(Seats(), door, 1)
        await asyncio.sleep(2 * LONG)
        assert all([door.enter_now(), door.enter_now()])
        before = asyncio.create_task(door.enter(1, PATIENCE))
        await settled()
        await one.claims()
        after = asyncio.create_task(door.enter(1, PATIENCE))
        await settled()
        # Who comes back takes no room to wait from those who come.
        assert places(door) == (2, 2, 1)
        with pytest.raises(OverloadedError):
            door.check_room(1)
        turns = []
        for _ in range(3):
            door.leave()
            await settled()
            turns.append((before.done(), one.runs, after.done()))
        assert turns == [(True, False, False), (True, True, False), (True, True, True)]
        await one.ends()
        assert places(door) == (1, 0, 0)

    play(story())


def test_who_cannot_come_back_in_time_is_told_so(play: Play, door: Admission) -> None:
    async def story() -> None:
        [one] = await come(Seats(), door, 1)
        await asyncio.sleep(2 * LONG)
        assert all([door.enter_now(), door.enter_now()])
        await one.claims()
        await asyncio.sleep(PATIENCE)
        assert isinstance(one.task.exception(), DeadlineExceededError)
        assert places(door) == (2, 0, 0)

    play(story())


def test_an_answer_that_waits_for_the_store_steps_aside_and_leaves_from_there(play: Play, door: Admission) -> None:
    async def story() -> None:
        [one] = await come(Seats(), door, 1)
        await one.claims()
        one.ran.set()
        await asyncio.sleep(2 * LONG)
        assert places(door) == (0, 0, 1)
        assert all([door.enter_now(), door.enter_now()])
        await one.ends()
        assert places(door) == (2, 0, 0)

    play(story())


def test_as_many_are_in_hand_as_a_model_takes_and_all_of_them_may_step_aside(play: Play, door: Admission) -> None:
    async def story() -> None:
        seats = Seats()
        waiting = await come(seats, door, 1, 1)
        await asyncio.sleep(2 * LONG)
        # While some are aside others are at once.
        waiting += await come(seats, door, 1, 1)
        assert places(door) == (0, 0, 4)
        [refused] = await come(seats, door, 1)
        assert refused.is_refused
        # Who runs will wait for the store again.
        await waiting[0].claims()
        assert places(door) == (1, 0, 3)
        [refused] = await come(seats, door, 1)
        assert refused.is_refused
        waiting[0].ran.set()
        await settled()
        assert places(door) == (0, 0, 4)
        await waiting[0].ends()
        [taken] = await come(seats, door, 1)
        assert places(door) == (0, 0, 4)
        await asyncio.gather(*(one.ends() for one in (*waiting[1:], taken)))
        assert places(door) == (0, 0, 0)

    play(story())


def test_nobody_is_refused_for_a_few_that_wait_however_large(play: Play) -> None:
    async def story() -> None:
        door, seats = Admission(Capacity(2, 0, 0), lambda _: None), Seats()
        waiting = await come(seats, door, 10**9)
        await asyncio.sleep(2 * LONG)
        waiting += await come(seats, door, 10**9)
        [refused] = await come(seats, door, 0)
        assert refused.is_refused
        assert places(door) == (0, 0, 2)
        await asyncio.gather(*(one.ends() for one in waiting))

    play(story())


def test_what_they_hold_in_bytes_has_a_limit(play: Play, door: Admission) -> None:
    async def story() -> None:
        seats = Seats()
        waiting = await come(seats, door, 60, 30)
        await asyncio.sleep(2 * LONG)
        refused, taken = await come(seats, door, 11, 10)
        assert refused.is_refused
        assert places(door) == (0, 0, 3)
        await asyncio.gather(*(one.ends() for one in (*waiting, taken)))

    play(story())


@pytest.mark.parametrize("steps", [0, 1, 2], ids=["at the store", "coming back", "at the store again"])
def test_who_is_cancelled_leaves_nothing_behind(play: Play, door: Admission, steps: int) -> None:
    async def story() -> None:
        seats = Seats()
        [one] = await come(seats, door, 1)
        await asyncio.sleep(2 * LONG)
        if steps == 1:
            assert all([door.enter_now(), door.enter_now()])
        if steps:
            await one.claims()
        if steps == 2:
            one.ran.set()
            await asyncio.sleep(2 * LONG)
        assert door.aside == 1
        one.task.cancel()
        await asyncio.wait({one.task})
        assert places(door) == (2 if steps == 1 else 0, 0, 0)
        for _ in range(door.active):
            door.leave()
        [another] = await come(seats, door, 1)
        assert places(door) == (1, 0, 0)
        await another.ends()

    play(story())
