import asyncio
from collections.abc import Sequence

import pytest

from onceserve_serving.idempotency import grouping
from onceserve_serving.idempotency.grouping import LIMIT, LIMIT_BYTES, Groups
from onceserve_serving.idempotency.store import StoreUnavailableError


class Recorder:
    """Answers each item with itself, when it is let."""

    def __init__(self) -> None:
        self.groups: list[list[object]] = []
        self.free = asyncio.Event()
        self.free.set()

    async def run(self, items: Sequence[object]) -> Sequence[object]:
        self.groups.append(list(items))
        await self.free.wait()
        return items


async def test_what_is_asked_at_once_goes_together() -> None:
    recorder = Recorder()
    groups = Groups(recorder.run, 10)
    assert await asyncio.gather(*(groups.ask(b"%d" % n, n) for n in range(5))) == [0, 1, 2, 3, 4]
    assert recorder.groups == [[0, 1, 2, 3, 4]]


async def test_what_comes_while_a_group_runs_is_the_next() -> None:
    recorder = Recorder()
    recorder.free.clear()
    groups = Groups(recorder.run, 10)
    calls = [asyncio.create_task(groups.ask(b"a", "a"))]
    await asyncio.sleep(0.01)
    calls += [asyncio.create_task(groups.ask(key, key)) for key in (b"b", b"c")]
    await asyncio.sleep(0.01)
    recorder.free.set()
    await asyncio.gather(*calls)
    assert recorder.groups == [["a"], [b"b", b"c"]]


async def test_who_asks_again_at_once_goes_with_those_who_wait() -> None:
    recorder = Recorder()
    groups = Groups(recorder.run, 10)

    async def twice(key: bytes) -> None:
        await groups.ask(key, key)
        await groups.ask(key, key)

    await asyncio.gather(twice(b"a"), twice(b"b"))
    assert recorder.groups == [[b"a", b"b"], [b"a", b"b"]]


async def test_a_group_has_each_key_once_in_the_order_of_the_calls() -> None:
    recorder = Recorder()
    groups = Groups(recorder.run, 10)
    await asyncio.gather(*(groups.ask(key, item) for key, item in ((b"a", 1), (b"a", 2), (b"b", 3), (b"a", 4))))
    assert recorder.groups == [[1, 3], [2], [4]]


async def test_a_group_is_not_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "LIMIT", 3)
    recorder = Recorder()
    groups = Groups(recorder.run, 10)
    await asyncio.gather(*(groups.ask(b"%d" % n, n) for n in range(7)))
    assert recorder.groups == [[0, 1, 2], [3, 4, 5], [6]]


async def test_an_error_of_one_is_its_own() -> None:
    async def run(items: Sequence[int]) -> Sequence[object]:
        return [ValueError(item) if item == 1 else item for item in items]

    groups = Groups(run, 10)
    outcomes = await asyncio.gather(*(groups.ask(b"%d" % n, n) for n in range(3)), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["0", "1", "2"]
    assert isinstance(outcomes[1], ValueError)


async def test_an_error_of_the_group_is_everybodys_and_not_the_next_ones() -> None:
    calls = 0

    async def run(items: Sequence[int]) -> Sequence[object]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ValueError("gone")
        return items

    groups = Groups(run, 10)
    outcomes = await asyncio.gather(*(groups.ask(b"%d" % n, n) for n in range(3)), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["gone"] * 3
    assert await groups.ask(b"x", 4) == 4


async def test_who_leaves_before_its_turn_is_not_sent() -> None:
    recorder = Recorder()
    groups = Groups(recorder.run, 10)
    leaving, staying = (asyncio.create_task(groups.ask(key, key)) for key in (b"a", b"b"))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == b"b"
    assert recorder.groups == [[b"b"]]


async def test_nobody_waits_for_ever() -> None:
    recorder = Recorder()
    recorder.free.clear()
    groups = Groups(recorder.run, 0.01)
    first = asyncio.create_task(groups.ask(b"a", 1))
    await asyncio.sleep(0.001)
    late = asyncio.create_task(groups.ask(b"b", 2))
    await asyncio.sleep(0.05)
    recorder.free.set()
    assert await first == 1
    with pytest.raises(StoreUnavailableError, match=r"was not asked: its turn did not come within 0.01 s"):
        await late


async def test_closing_refuses_what_waits_and_lets_the_rest_end() -> None:
    recorder = Recorder()
    recorder.free.clear()
    groups = Groups(recorder.run, 10)
    first = asyncio.create_task(groups.ask(b"a", 1))
    await asyncio.sleep(0.001)
    waiting = asyncio.create_task(groups.ask(b"b", 2))
    await asyncio.sleep(0.001)
    closing = asyncio.create_task(groups.close())
    with pytest.raises(StoreUnavailableError, match="the server is stopping"):
        await waiting
    recorder.free.set()
    await closing
    assert await first == 1


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ([LIMIT_BYTES // 8] * LIMIT, [8] * (LIMIT // 8)),
        ([LIMIT_BYTES + 1] * 3, [1, 1, 1]),
        ([1, LIMIT_BYTES, LIMIT_BYTES, 1], [2, 1, 1]),
    ],
)
async def test_a_group_has_so_many_bytes_and_no_more(sizes: list[int], groups: list[int]) -> None:
    recorder = Recorder()
    waiting = Groups(recorder.run, 10)
    answers = await asyncio.gather(*(waiting.ask(b"%d" % n, n, size) for n, size in enumerate(sizes)))
    assert answers == list(range(len(sizes)))
    assert [len(group) for group in recorder.groups] == groups
