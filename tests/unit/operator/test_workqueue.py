import asyncio
from itertools import islice

import pytest

from onceserve_operator import workqueue
from onceserve_operator.domain import Key
from onceserve_operator.workqueue import WorkQueue, backoff

A, B = Key("default", "a"), Key("default", "b")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workqueue, "_SETTLING", 0)
    monkeypatch.setattr(workqueue, "_FIRST_DELAY", 0.01)


class Process:
    """Passes that wait to be let through, and fail as often as they are told."""

    def __init__(self, *, failures: int = 0) -> None:
        self.started: asyncio.Queue[Key] = asyncio.Queue()
        self.gate = asyncio.Semaphore(0)
        self.failures = failures
        self.running = 0

    async def __call__(self, key: Key) -> None:
        self.running += 1
        self.started.put_nowait(key)
        try:
            await self.gate.acquire()
        finally:
            self.running -= 1
        if self.failures:
            self.failures -= 1
            raise OSError("the API server is away")


async def settle(queue: WorkQueue) -> None:
    async with asyncio.timeout(2):
        await asyncio.gather(*queue._workers.values())


async def test_adding_while_waiting_is_one_pass_and_adding_while_running_is_one_more() -> None:
    process = Process()
    queue = WorkQueue(process, concurrency=1)
    for _ in range(3):
        queue.add(A)
    await process.started.get()
    for _ in range(3):
        queue.add(A)
    process.gate.release()
    await process.started.get()
    process.gate.release()
    await settle(queue)
    assert process.started.empty()


async def test_a_resource_never_has_two_passes_at_once_and_never_waits_for_another() -> None:
    process = Process()
    queue = WorkQueue(process, concurrency=4)
    queue.add(A)
    assert await process.started.get() == A
    queue.add(A)
    queue.add(B)
    assert await process.started.get() == B
    assert process.running == 2
    await queue.stop()


async def test_a_failed_pass_is_tried_again_without_being_asked(caplog: pytest.LogCaptureFixture) -> None:
    process = Process(failures=2)
    queue = WorkQueue(process, concurrency=1)
    for _ in range(3):
        process.gate.release()
    queue.add(A)
    await settle(queue)
    assert process.started.qsize() == 3
    assert [record.message for record in caplog.records] == ["default/a: the pass failed and will be tried again"] * 2


async def test_a_change_ends_the_wait_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workqueue, "_FIRST_DELAY", 3600)
    process = Process(failures=1)
    queue = WorkQueue(process, concurrency=1)
    process.gate.release()
    queue.add(A)
    await process.started.get()
    await asyncio.sleep(0.01)
    queue.add(A)
    assert await process.started.get() == A
    await queue.stop()


async def test_one_failing_resource_takes_no_slot_while_it_waits() -> None:
    process = Process(failures=1)
    queue = WorkQueue(process, concurrency=1)
    process.gate.release()
    queue.add(A)
    await process.started.get()
    queue.add(B)
    assert await process.started.get() == B
    await queue.stop()


async def test_stopping_ends_what_runs() -> None:
    process = Process()
    queue = WorkQueue(process, concurrency=1)
    queue.add(A)
    await process.started.get()
    await queue.stop()
    assert process.running == 0


def test_delays_double_up_to_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workqueue, "_FIRST_DELAY", 0.5)
    assert list(islice(backoff(), 9)) == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
