import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

import numpy as np
import pytest

from onceserve_contract.termination import FailureReason
from onceserve_serving.engine import ort
from onceserve_serving.engine import thread as thread_module
from onceserve_serving.engine.runner import LOOP_BUDGET, Runner, WarmUp, warm_up
from onceserve_serving.engine.signature import Declared, read
from onceserve_serving.engine.thread import InferenceThread
from onceserve_serving.errors import ExecutionFailedError, InvalidRequestError, ModelUnavailableError
from onceserve_serving.tensors import Array, TensorSpec
from unit.serving import models


def test_a_signature_keeps_order_and_turns_symbols_into_any_size() -> None:
    inputs = [Declared("b", "tensor(float)", ["N", 3, None]), Declared("a", "tensor(string)", [])]
    signature = read(inputs, [Declared("y", "tensor(int64)", [-1])])
    assert list(signature.inputs.values()) == [TensorSpec("b", "FP32", (-1, 3, -1)), TensorSpec("a", "BYTES", ())]
    assert signature.outputs == {"y": TensorSpec("y", "INT64", (-1,))}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("seq(map(int64,tensor(float)))", "zipmap"),
        ("map(string,tensor(float))", "zipmap"),
        ("tensor(bfloat16)", "no datatype in the protocol"),
    ],
)
def test_a_value_that_the_protocol_cannot_carry_says_what_to_do(kind: str, words: str) -> None:
    with pytest.raises(ModelUnavailableError, match=f"output 'probabilities'.*{words}") as caught:
        read([], [Declared("probabilities", kind, [])])
    assert caught.value.reason is FailureReason.LOAD_FAILED


def test_a_model_with_a_sequence_is_refused_when_it_is_loaded() -> None:
    with pytest.raises(ModelUnavailableError, match="zipmap"):
        ort.load(models.sequence(), threads=1)


@pytest.mark.parametrize("content", [b"", b"garbage", models.identity()[:-20]])
def test_what_is_no_model_is_refused_in_onnxruntimes_words(content: bytes) -> None:
    with pytest.raises(ModelUnavailableError, match=r"onnxruntime .* cannot load the model: ") as caught:
        ort.load(content, threads=1)
    assert caught.value.reason is FailureReason.LOAD_FAILED
    assert "ONNXRuntimeError" not in str(caught.value)


def test_the_engine_gives_the_outputs_asked_for_in_their_order() -> None:
    engine = ort.load(models.addition(), threads=1)
    inputs = {"a": np.array([5, 6], dtype=np.float32), "b": np.array([1, 2], dtype=np.float32)}
    assert [array.tolist() for array in engine.run(inputs, ("difference", "sum"))] == [[4, 4], [6, 8]]


def test_inputs_that_onnxruntime_refuses_are_the_callers_fault() -> None:
    engine = ort.load(models.identity(), threads=1)
    with pytest.raises(InvalidRequestError, match="the model refuses these inputs"):
        engine.run({"x": np.zeros((1, 4), dtype=np.float32)}, ("y",))


def test_a_failure_inside_the_model_is_the_models() -> None:
    engine = ort.load(models.addition(), threads=1)
    with pytest.raises(ExecutionFailedError, match="the model failed on these inputs"):
        engine.run({"a": np.zeros(2, dtype=np.float32), "b": np.zeros(3, dtype=np.float32)}, ("sum",))


@pytest.mark.parametrize(
    "content", [models.identity(), models.every_datatype(), models.convolution(), models.identity(shape=[])]
)
def test_warm_up_finds_inputs_by_the_models_own_signature(content: bytes) -> None:
    warm = warm_up(ort.load(content, threads=1))
    assert warm.seconds > 0


def test_a_model_that_takes_nothing_its_signature_allows_is_refused() -> None:
    with pytest.raises(ModelUnavailableError, match="warm-up run failed") as caught:
        warm_up(ort.load(models.reshape_to(7), threads=1))
    assert caught.value.reason is FailureReason.LOAD_FAILED


async def test_short_runs_stay_on_the_event_loop_and_long_ones_leave_it() -> None:
    thread = InferenceThread()
    engine = Recording(models.identity())
    inputs = {"x": np.zeros((1, 3), dtype=np.float32)}
    for seconds in (0.0001, 0.01):
        await Runner(engine, thread, WarmUp(inputs, seconds)).run(inputs, ("y",))
    assert engine.threads == [threading.current_thread().name, "inference"]


async def test_a_large_request_to_a_quick_model_leaves_the_loop() -> None:
    engine = Recording(models.identity())
    runner = Runner(engine, InferenceThread(), WarmUp({"x": np.zeros((1, 3), dtype=np.float32)}, 0.0001))
    await runner.run({"x": np.zeros((11, 3), dtype=np.float32)}, ("y",))
    assert engine.threads == ["inference"]


async def test_a_failed_run_is_no_success() -> None:
    runner = Runner(ort.load(models.identity(), 1), InferenceThread(), WarmUp({"x": np.zeros(3, np.float32)}, 1.0))
    before = runner.last_success
    with pytest.raises(InvalidRequestError):
        await runner.smoke()
    assert runner.last_success == before


async def test_the_thread_hands_back_results_and_errors_in_order() -> None:
    thread = InferenceThread()
    calls: list[Callable[[], int]] = [lambda: 1, lambda: 2, lambda: 3]
    assert await asyncio.gather(*(thread.call(call) for call in calls)) == [1, 2, 3]
    with pytest.raises(KeyError):
        await thread.call(fail)
    assert await thread.call(lambda: 4) == 4


async def test_a_call_cancelled_before_its_turn_never_runs() -> None:
    thread, gate, ran = InferenceThread(), threading.Event(), threading.Event()
    first = asyncio.create_task(thread.call(gate.wait))
    second = asyncio.create_task(thread.call(ran.set))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    gate.set()
    await first
    await thread.call(lambda: None)
    assert not ran.is_set()


async def test_the_thread_tells_how_long_it_is_busy() -> None:
    thread, gate = InferenceThread(), threading.Event()
    started = time.monotonic()
    running = asyncio.create_task(thread.call(gate.wait))
    while not thread.busy:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    assert 0 <= thread.busy_for() <= time.monotonic() - started
    gate.set()
    await running
    await thread.call(lambda: None)


async def test_a_thread_that_is_closed_ends_after_what_waits_and_refuses_the_rest() -> None:
    thread, gate = InferenceThread(), threading.Event()
    first = asyncio.create_task(thread.call(gate.wait))
    await asyncio.sleep(0)
    thread.close()
    late = asyncio.create_task(thread.call(lambda: None))
    await asyncio.sleep(0)
    gate.set()
    assert await first
    for refused in (late, thread.call(lambda: None)):
        with pytest.raises(ExecutionFailedError, match="the inference thread has ended"):
            await asyncio.wait_for(refused, 1)
    assert not thread.alive
    assert not thread.busy


async def test_a_thread_that_dies_of_a_defect_fails_its_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(*_: object) -> NoReturn:
        raise MemoryError

    told = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: told.set())
    thread = InferenceThread()
    monkeypatch.setattr(thread_module, "_outcome", defect)
    for _ in range(2):
        with pytest.raises(ExecutionFailedError, match="the inference thread has ended"):
            await asyncio.wait_for(thread.call(lambda: None), 1)
    assert not thread.alive
    assert await asyncio.to_thread(told.wait, 1)


@pytest.mark.parametrize(
    ("bulk_seconds", "rows"), [(0.00017, 32), (0.00097, 32), (0.0031, 10.3), (0.1, 10.0), (None, 10.0)]
)
def test_what_a_batch_may_have_on_the_event_loop_is_measured(bulk_seconds: float | None, rows: float) -> None:
    def warm(rows: int, seconds: float) -> WarmUp:
        return WarmUp({"x": np.zeros((rows, 3), np.float32)}, seconds)

    bulk = None if bulk_seconds is None else warm(32, bulk_seconds)
    runner = Runner(ort.load(models.identity(), 1), InferenceThread(), warm(1, 0.0001), bulk)
    assert runner._short_bytes / 12 == pytest.approx(rows)


def test_a_provider_that_is_absent_is_named_with_those_that_are_there() -> None:
    with pytest.raises(ModelUnavailableError, match=r"no provider CUDA \(providers\); it has .*CPU"):
        ort.load(models.identity(), 1, "CUDA,CPU")
    assert ort.load(models.identity(), 1, "cpu").signature.inputs.keys() == {"x"}


def test_long_texts_leave_the_event_loop() -> None:
    engine = ort.load(models.identity(models.TYPES["BYTES"], ["N"]), 1)
    runner = Runner(engine, InferenceThread(), WarmUp({"x": np.array([b"short"], dtype=object)}, LOOP_BUDGET / 10))
    assert runner.is_short({"x": np.array([b"short"] * 2, dtype=object)})
    assert not runner.is_short({"x": np.array([b"x" * 10_000], dtype=object)})


def test_texts_are_bytes_outside_the_engine_and_text_within() -> None:
    engine = ort.load(models.identity(models.TYPES["BYTES"], ["N"]), 1)
    texts = np.array(["é".encode(), b"", b"a\0b"], dtype=np.object_)
    assert engine.run({"x": texts}, ("y",))[0].tolist() == texts.tolist()
    with pytest.raises(InvalidRequestError, match="input 'x' holds bytes that are no UTF-8 text"):
        engine.run({"x": np.array([b"\xff"], dtype=np.object_)}, ("y",))


def fail() -> NoReturn:
    raise KeyError


class Recording(ort.OrtEngine):
    """A real engine that notes the threads it ran in."""

    def __init__(self, content: bytes) -> None:
        super().__init__(ort.load(content, 1)._session)
        self.threads: list[str] = []

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        self.threads.append(threading.current_thread().name)
        return super().run(inputs, outputs)


async def test_who_hears_of_the_end_of_a_run_finds_the_thread_free() -> None:
    thread = thread_module.InferenceThread()
    for _ in range(200):
        await thread.call(lambda: None)
        assert not thread.busy
