import asyncio
import time
from functools import partial
from itertools import pairwise

import pytest

from onceserve_operator import workqueue
from onceserve_operator.backoff import backoff
from onceserve_operator.domain import Key
from onceserve_operator.errors import ApiUnavailableError
from onceserve_operator.workqueue import WorkQueue
from unit.serving.idempotency import virtual

A, B = Key("default", "a"), Key("default", "b")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workqueue, "_SETTLING", 0)
    monkeypatch.setattr(workqueue, "backoff", partial(backoff, 0.01))


class Process:
    """Passes that wait to be let through, and fail as often as they are told."""

    def __init__(self, *, failures: int = 0, failure: Exception | None = None) -> None:
        self.failure = failure or OSError("the API server is away")
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
            raise self.failure


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


async def test_an_api_server_that_is_away_is_told_in_words(caplog: pytest.LogCaptureFixture) -> None:
    process = Process(failures=1, failure=ApiUnavailableError("the API server does not answer"))
    queue = WorkQueue(process, concurrency=1)
    for _ in range(2):
        process.gate.release()
    queue.add(A)
    await settle(queue)
    [record] = caplog.records
    assert record.getMessage() == "default/a: the pass will be tried again: the API server does not answer"
    assert (record.levelname, record.exc_info) == ("WARNING", None)


async def test_a_change_ends_the_wait_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workqueue, "backoff", partial(backoff, 3600))
    process = Process(failures=1)
    queue = WorkQueue(process, concurrency=1)
    process.gate.release()
    queue.add(A)
    await process.started.get()
    await asyncio.sleep(0.01)
    queue.add(A)
    assert await process.started.get() == A
    await queue.stop()


def test_what_is_urgent_and_no_change_hastens_no_further_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workqueue, "backoff", backoff)
    tries: list[float] = []

    async def process(key: Key) -> None:
        tries.append(asyncio.get_running_loop().time())
        raise ApiUnavailableError("the API server does not answer")

    async def story() -> None:
        queue = WorkQueue(process, concurrency=1)
        queue.add(A)
        for _ in range(150):
            queue.add(A, changed=False, urgent=True)
            await asyncio.sleep(0.2)
        assert tries == pytest.approx([0, 0.5, 1.5, 3.5, 7.5, 15.5])
        queue.add(A)
        await asyncio.sleep(0.1)
        assert len(tries) == 7
        await queue.stop()

    virtual.run(story(), virtual.Loop())


async def test_one_failing_resource_takes_no_slot_while_it_waits() -> None:
    process = Process(failures=1)
    queue = WorkQueue(process, concurrency=1)
    process.gate.release()
    queue.add(A)
    await process.started.get()
    queue.add(B)
    assert await process.started.get() == B
    await queue.stop()


async def test_passes_that_await_nothing_leave_others_their_turn() -> None:
    done: list[Key] = []
    seen: set[int] = set()

    async def process(key: Key) -> None:
        done.append(key)

    async def look() -> None:
        while len(done) < 100:
            seen.add(len(done))
            await asyncio.sleep(0)

    queue = WorkQueue(process, concurrency=4)
    for number in range(100):
        queue.add(Key("default", str(number)))
    async with asyncio.timeout(2):
        await look()
    await settle(queue)
    assert max(later - earlier for earlier, later in pairwise(sorted(seen))) <= 4


async def order_of(queue: WorkQueue, process: Process, number: int) -> list[str]:
    """Let as many passes through, one after the other; return whose they were."""
    found = []
    for _ in range(number):
        async with asyncio.timeout(2):
            found.append((await process.started.get()).name)
        process.gate.release()
    await settle(queue)
    return found


async def busy(queue: WorkQueue, process: Process) -> None:
    """Have the only slot taken, by a pass that has started."""
    queue.add(Key("default", "busy"))
    await process.started.get()


async def test_what_has_changed_or_is_urgent_goes_before_what_is_only_looked_at_again() -> None:
    process = Process()
    queue = WorkQueue(process, concurrency=1)
    await busy(queue, process)
    for name in ("a", "b", "c"):
        queue.add(Key("default", name), changed=False)
    await asyncio.sleep(0.01)
    queue.add(Key("default", "new"))
    queue.add(Key("default", "c"))
    queue.add(Key("default", "b"), changed=False, urgent=True)
    await asyncio.sleep(0.01)
    process.gate.release()
    assert await order_of(queue, process, 4) == ["c", "b", "new", "a"]


async def test_what_changes_all_the_time_starves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workqueue, "_AHEAD", 2)
    process = Process()
    queue = WorkQueue(process, concurrency=1)
    await busy(queue, process)
    for name in ("x", "y"):
        queue.add(Key("default", name), changed=False)
    for number in range(5):
        queue.add(Key("default", str(number)))
    await asyncio.sleep(0.01)
    process.gate.release()
    assert await order_of(queue, process, 7) == ["0", "1", "x", "2", "3", "y", "4"]


async def test_a_change_whose_pass_failed_goes_first_again(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(failures=1)
    queue = WorkQueue(process, concurrency=1)
    queue.add(A)
    await process.started.get()
    for name in ("x", "y"):
        queue.add(Key("default", name), changed=False)
    await asyncio.sleep(0.01)
    process.gate.release()
    assert (await process.started.get()).name == "x"
    await asyncio.sleep(0.05)
    process.gate.release()
    assert await order_of(queue, process, 2) == ["a", "y"]


async def handing_on(waiting: int) -> float:
    """Return the seconds of CPU it takes to hand a turn to each of so many who wait."""
    turns = workqueue._Turns(0)
    loop = asyncio.get_running_loop()
    turns._others.update((Key("default", str(number)), loop.create_future()) for number in range(waiting))
    began = time.process_time()
    for _ in range(waiting):
        turns._give()
    return time.process_time() - began


async def test_eight_times_as_many_who_wait_take_not_much_more_than_eight_times_as_long() -> None:
    assert await handing_on(160_000) < 25 * await handing_on(20_000)


async def test_what_is_added_while_it_waits_for_its_turn_has_one_pass() -> None:
    process = Process()
    queue = WorkQueue(process, concurrency=1)
    await busy(queue, process)
    for _ in range(3):
        queue.add(A, changed=False)
        await asyncio.sleep(0.01)
    process.gate.release()
    assert await order_of(queue, process, 1) == ["a"]
    assert process.started.empty()


async def test_stopping_ends_those_who_wait_for_their_turn_too() -> None:
    process = Process()
    queue = WorkQueue(process, concurrency=1)
    await busy(queue, process)
    for number in range(3):
        queue.add(Key("default", str(number)), changed=number == 0)
    await asyncio.sleep(0.01)
    async with asyncio.timeout(2):
        await queue.stop()
    assert process.started.empty()
    assert queue._workers == {}


async def test_stopping_ends_what_runs_and_nothing_starts_any_more() -> None:
    process = Process()
    queue = WorkQueue(process, concurrency=1)
    queue.add(A)
    await process.started.get()
    await queue.stop()
    assert process.running == 0
    queue.add(B)
    await settle(queue)
    assert process.started.empty()
