"""The door to a model, against a plain model of it."""

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from onceserve_serving import admission as module
from onceserve_serving.admission import Admission, Capacity, Room
from onceserve_serving.errors import DeadlineExceededError, OverloadedError, StoreBusyError

CAPACITY = Capacity(concurrency=2, queue=3, queue_bytes=100)


class Door(RuleBasedStateMachine):
    """Callers come, wait, give up, are too late, step aside, come back and leave; each step is settled before the next.

    Who waits to come back is aside, and has no size.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.rejected: Counter[str] = Counter()
        self.expected: Counter[str] = Counter()
        self.door = Admission(CAPACITY, lambda reason: self.rejected.update([reason]))
        self.inside = 0
        self.aside = 0
        self.waiting: list[tuple[int | None, asyncio.Task[None]]] = []

    def teardown(self) -> None:
        for _, task in self.waiting:
            task.cancel()
        self.settle()
        self.loop.close()

    def settle(self) -> None:
        for _ in range(3):
            self.loop.run_until_complete(asyncio.sleep(0))

    def come(self, size: int, deadline: float) -> "asyncio.Task[None]":
        return self.started(self.door.enter(size, deadline))

    def started(self, coming: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = self.loop.create_task(coming)
        self.settle()
        return task

    @property
    def sizes(self) -> list[int]:
        """Bytes of those who came and wait."""
        return [size for size, _ in self.waiting if size is not None]

    @property
    def returning(self) -> int:
        return len(self.waiting) - len(self.sizes)

    def is_full(self, size: int) -> str | None:
        if len(self.sizes) >= CAPACITY.queue:
            return "queue"
        return "bytes" if sum(self.sizes) + size > CAPACITY.queue_bytes else None

    @rule(size=st.integers(0, 60))
    def enters(self, size: int) -> None:
        task = self.come(size, time.monotonic() + 60)
        if self.inside < CAPACITY.concurrency:
            task.result()
            self.inside += 1
        elif reason := self.is_full(size):
            error = task.exception()
            assert isinstance(error, OverloadedError)
            assert error.retry_after >= 1
            self.expected[reason] += 1
        else:
            assert not task.done()
            self.waiting.append((size, task))

    @precondition(lambda self: self.inside >= CAPACITY.concurrency and not self.is_full(1))
    @rule()
    def waits_too_long(self) -> None:
        task = self.come(1, time.monotonic() - 1)
        self.loop.run_until_complete(asyncio.wait([task], timeout=1))
        assert isinstance(task.exception(), DeadlineExceededError)
        self.expected["deadline"] += 1

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def gives_up(self, data: st.DataObject) -> None:
        _, task = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        task.cancel()
        self.settle()
        assert task.cancelled()

    @precondition(lambda self: self.inside)
    @rule(gives_up=st.booleans())
    def leaves(self, gives_up: bool) -> None:
        self.door.leave()
        self.inside -= 1
        if self.waiting and gives_up:
            _, task = self.waiting.pop(0)
            task.cancel()
            self.settle()
            assert task.cancelled()
        self.next_in_turn()

    @precondition(lambda self: self.inside)
    @rule()
    def steps_aside(self) -> None:
        self.door.step_aside()
        self.inside -= 1
        self.aside += 1
        self.next_in_turn()

    @precondition(lambda self: self.aside > self.returning)
    @rule()
    def comes_back(self) -> None:
        task = self.started(self.door.come_back(time.monotonic() + 60))
        if self.inside < CAPACITY.concurrency:
            task.result()
            self.inside += 1
            self.aside -= 1
        else:
            assert not task.done()
            self.waiting.append((None, task))

    @precondition(lambda self: self.inside >= CAPACITY.concurrency and self.aside > self.returning)
    @rule()
    def comes_back_too_late(self) -> None:
        task = self.started(self.door.come_back(time.monotonic() - 1))
        self.loop.run_until_complete(asyncio.wait([task], timeout=1))
        assert isinstance(task.exception(), DeadlineExceededError)
        self.expected["deadline"] += 1

    @precondition(lambda self: self.aside > self.returning)
    @rule()
    def leaves_from_aside(self) -> None:
        self.door.come_back_to_leave()
        self.door.leave()
        self.aside -= 1

    def next_in_turn(self) -> None:
        if self.waiting and self.inside < CAPACITY.concurrency:
            self.settle()
            size, task = self.waiting.pop(0)
            task.result()
            self.inside += 1
            self.aside -= size is None

    @invariant()
    def it_counts_right(self) -> None:
        assert (self.door.active, self.door.aside) == (self.inside, self.aside)
        assert self.inside <= CAPACITY.concurrency
        assert self.door.queued == len(self.sizes)
        assert self.door.queued_bytes == sum(self.sizes)
        assert self.rejected == self.expected


TestDoor = Door.TestCase


@given(st.lists(st.integers(0, 60)))
def test_there_is_room_for_all_that_a_model_takes(sizes: list[int]) -> None:
    """Who is worked on has room whatever its bytes; beyond that as many have as may wait, if all are small enough."""
    refusals: list[str] = []
    room = Room(CAPACITY, refusals.append)
    taken: list[int] = []
    refused = 0
    for size in sizes:
        if len(taken) < 2 or (len(taken) < 2 + 3 and sum(taken) + size <= 100):
            room.take(size)
            taken.append(size)
        else:
            with pytest.raises(StoreBusyError):
                room.take(size)
            refused += 1
            room.give_back(taken.pop(0))
    assert refusals == ["store"] * refused


async def test_retry_after_follows_the_rate_of_the_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    door = Admission(Capacity(1, 10, 100), lambda _: None)
    assert door.retry_after() == module.SOONEST
    assert door.enter_now()
    tasks = [asyncio.create_task(door.enter(1, time.monotonic() + 60)) for _ in range(6)]
    await asyncio.sleep(0)
    clock = 1000.0
    for _ in range(4):
        clock += 3.0
        monkeypatch.setattr(time, "monotonic", lambda now=clock: now)
        door.leave()
    monkeypatch.undo()
    assert door.retry_after() == pytest.approx(3.0 * 3)
    door._interval = 1e6
    assert door.retry_after() == module.LATEST
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_it_is_drained_when_the_last_has_left() -> None:
    door = Admission(CAPACITY, lambda _: None)
    assert door.enter_now()
    door.step_aside()
    drained = asyncio.create_task(door.drained())
    await asyncio.sleep(0)
    assert not drained.done()
    await door.come_back(time.monotonic() + 60)
    await asyncio.sleep(0.05)
    assert not drained.done()
    door.leave()
    await asyncio.wait_for(drained, 1)


def test_what_is_too_late_is_refused_and_counted() -> None:
    reasons: list[str] = []
    door = Admission(CAPACITY, reasons.append)
    door.check_time(time.monotonic() + 60)
    with pytest.raises(DeadlineExceededError):
        door.check_time(time.monotonic())
    assert reasons == ["deadline"]


def test_it_is_overrun_for_a_moment_after_each_refusal_for_want_of_room(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    door = Admission(Capacity(concurrency=1, queue=0, queue_bytes=0), lambda _: None)
    assert door.enter_now()
    assert not door.is_overrun()
    with pytest.raises(OverloadedError):
        door.check_room(1)
    now += module.JUST_NOW / 2
    assert door.is_overrun()
    now += module.JUST_NOW
    assert not door.is_overrun()
