"""Whatever befalls some requests of a batch, every other caller gets its own answer, as if it had been alone."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onceserve_serving.batching import execution
from onceserve_serving.batching.batcher import Batcher, Waiter
from onceserve_serving.batching.flush import ALONE, BURST, Limits
from onceserve_serving.engine import ort
from onceserve_serving.engine.runner import Runner, WarmUp
from onceserve_serving.engine.thread import InferenceThread
from onceserve_serving.errors import DeadlineExceededError, ExecutionFailedError, OnceServeError
from onceserve_serving.telemetry import Telemetry
from onceserve_serving.tensors import Array
from unit.serving import models

T = TypeVar("T")

ROWS = 8
SHORT, LONG = 1e-6, 10.0
"""Seconds that the warm-up is said to take: short runs stay on the event loop, long ones leave it."""

LOOKED_UP = {"x": np.array([0])}, ("y",)

THREAD = InferenceThread()
ENGINE = ort.load(models.lookup(ROWS), 1)


class Gated(ort.OrtEngine):
    """A real engine that runs when its gate is open, and notes the rows of each run."""

    def __init__(self, content: bytes) -> None:
        super().__init__(ort.load(content, 1)._session)
        self.gate = threading.Event()
        self.gate.set()
        self.began = threading.Event()
        self.rows: list[int] = []

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        self.began.set()
        self.gate.wait()
        self.rows.append(len(next(iter(inputs.values()))))
        return super().run(inputs, outputs)


@dataclass(frozen=True)
class Asked:
    """A request: its indices, the turn of the loop in which it comes, that of its cancelling, and if it is too late."""

    indices: tuple[int, ...]
    comes: int
    cancelled: int | None
    late: bool

    @property
    def inputs(self) -> dict[str, Array]:
        return {"x": np.array(self.indices, dtype=np.int64)}


requests = st.builds(
    Asked,
    indices=st.lists(st.integers(0, ROWS + 1), min_size=0, max_size=4).map(tuple),
    comes=st.integers(0, 2),
    cancelled=st.none() | st.integers(0, 4),
    late=st.sampled_from([False, False, True]),
)


def batcher(
    seconds: float,
    engine: ort.OrtEngine = ENGINE,
    delay: float = 0.0,
    *,
    merges: bool = True,
    in_haste: bool = False,
) -> Batcher:
    runner = Runner(engine, THREAD, WarmUp({"x": np.zeros(1, dtype=np.int64)}, seconds))
    return Batcher("m", runner, Limits(6, delay), Telemetry(), merges=merges, in_haste=lambda: in_haste)


async def ask(target: Batcher, asked: Asked) -> Sequence[Array]:
    for _ in range(asked.comes):
        await asyncio.sleep(0)
    now = time.monotonic()
    return await target.run(asked.inputs, ("y",), now, now - 1 if asked.late else now + 60)


async def cancel(task: "asyncio.Task[Sequence[Array]]", turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()


async def answers(target: Batcher, many: Sequence[Asked]) -> list[Sequence[Array] | BaseException]:
    tasks = [asyncio.create_task(ask(target, one)) for one in many]
    killers = [cancel(task, one.cancelled) for task, one in zip(tasks, many, strict=True) if one.cancelled is not None]
    await asyncio.gather(*killers)
    return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)


def alone(asked: Asked) -> Array | type[OnceServeError]:
    if asked.late:
        return DeadlineExceededError
    try:
        return ENGINE.run(asked.inputs, ("y",))[0]
    except OnceServeError as error:
        return type(error)


@pytest.mark.parametrize("merges", [True, False])
@pytest.mark.parametrize(("seconds", "in_haste"), [(SHORT, False), (LONG, False), (BURST / 4, True)])
@given(many=st.lists(requests, min_size=1, max_size=12), delay=st.sampled_from([0.0, 0.001]))
@settings(deadline=None)
def test_everybody_gets_what_it_would_have_got_alone(
    seconds: float, many: list[Asked], delay: float, merges: bool, in_haste: bool
) -> None:
    got = asyncio.run(answers(batcher(seconds, delay=delay, merges=merges, in_haste=in_haste), many))
    for asked, answer in zip(many, got, strict=True):
        expected = alone(asked)
        if asked.cancelled is not None and isinstance(answer, asyncio.CancelledError):
            continue
        if isinstance(expected, type):
            assert isinstance(answer, expected)
        else:
            assert not isinstance(answer, BaseException)
            np.testing.assert_array_equal(answer[0], expected)


async def ask_while_one_runs(target: Batcher, engine: Gated) -> None:
    """Have seven requests come while the model runs for an eighth; all get their own answers."""
    engine.gate.clear()
    tasks = [asyncio.create_task(ask(target, Asked((0,), 0, None, False)))]
    await asyncio.to_thread(engine.began.wait)
    tasks += [asyncio.create_task(ask(target, Asked((index,), 0, None, False))) for index in range(1, 8)]
    await asyncio.sleep(0)
    engine.gate.set()
    got = await asyncio.gather(*tasks)
    assert [answer[0][0, 0] for answer in got] == [2.0 * index for index in range(8)]


async def test_what_waits_while_the_model_runs_goes_together() -> None:
    engine = Gated(models.lookup(ROWS))
    target = batcher(LONG, engine)
    await ask_while_one_runs(target, engine)
    assert engine.rows == [1, 6, 1]


@pytest.mark.parametrize(("seconds", "hops"), [(BURST / 8, 2), (BURST / 2, 5), (2 * BURST, 8)])
async def test_what_goes_with_none_is_run_one_by_one_and_answered_in_bursts(
    seconds: float, hops: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "BURST", 60.0)
    engine = Gated(models.lookup(ROWS))
    target = batcher(seconds, engine, merges=False)
    calls = []

    def counted(function: Callable[[], T]) -> Awaitable[T]:
        calls.append(function)
        return call(function)

    call = THREAD.call
    monkeypatch.setattr(THREAD, "call", counted)
    await ask_while_one_runs(target, engine)
    assert (engine.rows, len(calls)) == ([1] * 8, hops)


@pytest.mark.parametrize("merges", [True, False])
@pytest.mark.parametrize(
    ("seconds", "in_haste", "leaves"), [(BURST / 8, False, True), (BURST / 8, True, False), (2 * BURST, True, True)]
)
async def test_in_haste_runs_of_some_milliseconds_stay_on_the_event_loop(
    seconds: float, in_haste: bool, leaves: bool, merges: bool
) -> None:
    engine = Gated(models.lookup(ROWS))
    target = batcher(seconds, engine, merges=merges, in_haste=in_haste)
    tasks = [asyncio.create_task(ask(target, Asked((index,), 0, None, False))) for index in range(3)]
    for _ in range(3):
        # With no turn of the loop more than it takes to come and be run, only what runs there is done.
        await asyncio.sleep(0)
    assert (target._running is not None) == leaves
    got = await asyncio.gather(*tasks)
    assert [answer[0][0, 0] for answer in got] == [0.0, 2.0, 4.0]


async def test_who_follows_a_run_that_took_longer_than_it_was_to_is_not_answered_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(execution, "BURST", 0.0)
    engine = Gated(models.lookup(ROWS))
    target = batcher(BURST / 8, engine, merges=False)
    tasks = [asyncio.create_task(ask(target, Asked((index,), 0, None, False))) for index in range(4)]
    got = await asyncio.wait_for(asyncio.gather(*tasks), 10)
    assert [answer[0][0, 0] for answer in got] == [2.0 * index for index in range(4)]
    waiters = [Waiter(ALONE, 1, 0.0, 0.0, time.monotonic() + 60, *LOOKED_UP, asyncio.Future()) for _ in range(3)]
    assert len(execution.run_one_by_one(target._runner, waiters).outcomes) == 1


@pytest.mark.parametrize("burst", [60.0, 0.0])
async def test_a_deadline_holds_in_a_burst(burst: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "BURST", burst)
    engine = Gated(models.lookup(ROWS))
    target = batcher(BURST / 8, engine, merges=False)
    engine.gate.clear()
    now = time.monotonic()
    deadlines = [now + 60, now + 0.02, now + 60]
    tasks = [asyncio.create_task(target.run({"x": np.array([0])}, ("y",), now, each)) for each in deadlines]
    await asyncio.to_thread(engine.began.wait)
    await asyncio.sleep(0.03)
    engine.gate.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(answer, DeadlineExceededError) for answer in answers] == [False, True, False]
    assert engine.rows == [1, 1]


async def test_what_comes_in_one_turn_of_the_loop_goes_together_and_one_alone_does_not_wait() -> None:
    engine = Gated(models.lookup(ROWS))
    target = batcher(SHORT, engine)
    for expected in ([1, 4], [5], [5]):
        engine.rows.clear()
        await asyncio.gather(*(ask(target, Asked((index,), 0, None, False)) for index in range(5)))
        assert engine.rows == expected
    engine.rows.clear()
    for _ in range(3):
        await ask(target, Asked((1,), 0, None, False))
    assert engine.rows == [1, 1, 1]


@pytest.mark.parametrize("merges", [True, False])
async def test_a_deadline_holds_while_the_model_runs_however_long(merges: bool) -> None:
    engine = Gated(models.lookup(ROWS))
    target = batcher(LONG, engine, merges=merges)
    engine.gate.clear()
    first = asyncio.create_task(ask(target, Asked((0,), 0, None, False)))
    await asyncio.to_thread(engine.began.wait)
    patient = asyncio.create_task(ask(target, Asked((1,), 0, None, False)))
    await asyncio.sleep(0)
    now = time.monotonic()
    with pytest.raises(DeadlineExceededError):
        await asyncio.wait_for(target.run({"x": np.array([2])}, ("y",), now, now + 0.02), 1)
    engine.gate.set()
    await asyncio.gather(first, patient)
    assert engine.rows == [1, 1]


async def test_who_has_left_is_not_run() -> None:
    engine = Gated(models.lookup(ROWS))
    target = batcher(LONG, engine)
    engine.gate.clear()
    first = asyncio.create_task(ask(target, Asked((0,), 0, None, False)))
    await asyncio.to_thread(engine.began.wait)
    leaver = asyncio.create_task(ask(target, Asked((1,), 0, None, False)))
    await asyncio.sleep(0)
    leaver.cancel()
    await asyncio.gather(leaver, return_exceptions=True)
    engine.gate.set()
    await first
    await ask(target, Asked((2,), 0, None, False))
    assert engine.rows == [1, 1]


@pytest.mark.parametrize("seconds", [SHORT, LONG])
async def test_an_output_without_rows_ends_batching_and_nobody_notices(
    seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Gated(models.summed())
    target = batcher(seconds, engine)
    target._crowded = True
    inputs = [{"x": np.full((2, 3), index, dtype=np.float32)} for index in range(4)]
    for _ in range(2):
        now = time.monotonic()
        got = await asyncio.gather(*(target.run(one, ("y",), now, now + 60) for one in inputs))
        assert [answer[0].tolist() for answer in got] == [[[2.0 * index] * 3] for index in range(4)]
    assert engine.rows == [6, *[2] * 8]
    assert caplog.text.count("not batched any more") == 1


async def test_a_thread_that_has_died_fails_its_requests_at_once() -> None:
    target = batcher(LONG)
    target._runner.thread = thread = InferenceThread()
    thread.close()
    while thread.alive:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    for _ in range(2):
        with pytest.raises(ExecutionFailedError, match="the inference thread has ended"):
            await asyncio.wait_for(ask(target, Asked((1,), 0, None, False)), 1)
