"""Runs an engine without holding up the event loop."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from onceserve_contract.termination import FailureReason
from onceserve_serving.engine import Engine
from onceserve_serving.engine.signature import warm_up_inputs
from onceserve_serving.engine.thread import InferenceThread
from onceserve_serving.errors import ModelUnavailableError, OnceServeError
from onceserve_serving.tensors import Array, Signature

LOOP_BUDGET: Final = 0.001
"""Seconds that runs may hold up the event loop: for a short one, the hop to the thread would cost more."""

WORTH_REPEATING: Final = 0.05
REPEATS: Final = 4

IN_BULK: Final = 8 * LOOP_BUDGET
"""Seconds of single runs whose rows are measured together, of a slow model FEW rows."""
FEW: Final = 4
TOO_LONG: Final = 2.0
"""Seconds that the rows may take one by one, for a start that measures them together."""


class Execution(NamedTuple):
    """The outputs of a run and the seconds inside the model."""

    outputs: list[Array]
    seconds: float


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Inputs that the model is known to take, and the seconds of a warm run with them."""

    inputs: Mapping[str, Array]
    seconds: float


def warm_up(engine: Engine) -> WarmUp:
    """Run the model until it is warm; raises ModelUnavailableError if it takes nothing that its signature allows."""
    refusal: OnceServeError | None = None
    for inputs in warm_up_inputs(engine.signature):
        try:
            return WarmUp(inputs, _measure(engine, inputs))
        except OnceServeError as error:
            refusal = refusal or error
    raise ModelUnavailableError(FailureReason.LOAD_FAILED, f"the warm-up run failed: {refusal}") from refusal


def in_bulk(engine: Engine, warm: WarmUp, most: int) -> WarmUp | None:
    """Measure a run of several rows, `most` at most; None where it would take too long or the model refuses."""
    # Few rows of a slow model: a run leaves the memory that it took with the engine.
    rows = min(most, max(FEW, int(IN_BULK / max(warm.seconds, 1e-9))))
    if warm.seconds * rows > TOO_LONG:
        return None
    inputs = {name: np.repeat(array, rows, axis=0) for name, array in warm.inputs.items()}
    try:
        seconds = _measure(engine, inputs)
        if seconds > WORTH_REPEATING >= warm.seconds:
            # Beside the best of several runs of one row, a first run of several would look slower than it is.
            seconds = min(seconds, _measure(engine, inputs))
    except OnceServeError:
        return None
    return WarmUp(inputs, seconds)


def gain(warm: WarmUp, bulk: WarmUp) -> float:
    """Return how many times as much the model does in the same time when rows go through it together."""
    return _rows_per_second(bulk) / _rows_per_second(warm)


class Runner:
    """A warm model: short runs on the event loop, long ones in the inference thread."""

    def __init__(self, engine: Engine, thread: InferenceThread, warm: WarmUp, bulk: WarmUp | None = None) -> None:
        self.signature: Signature = engine.signature
        self.warm = warm
        self.thread = thread
        self.last_success = time.monotonic()
        self._engine = engine
        self._warm_bytes = max(_bytes(warm.inputs), 1)
        self._bulk = bulk
        self._short_bytes = _bytes_within(LOOP_BUDGET, warm, bulk)

    async def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Execution:
        """Run the model; raises InvalidRequestError or ExecutionFailedError."""
        if self.is_short(inputs):
            execution = self.execute(inputs, outputs)
        else:
            execution = await self.thread.call(lambda: self.execute(inputs, outputs))
        self.succeeded()
        return execution

    def is_short(self, *requests: Mapping[str, Array], budget: float = LOOP_BUDGET) -> bool:
        """Tell whether these requests can be run together without holding up the event loop for longer."""
        most = self._short_bytes if budget == LOOP_BUDGET else _bytes_within(budget, self.warm, self._bulk)
        return sum(map(_bytes, requests)) <= most

    def expected(self, inputs: Mapping[str, Array]) -> float:
        """Return the seconds that a run of one request is to take, as far as its size tells."""
        return self.warm.seconds * max(_bytes(inputs) / self._warm_bytes, 1.0)

    def execute(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Execution:
        """Run the model here and now; raises InvalidRequestError or ExecutionFailedError."""
        return _timed(self._engine, inputs, outputs)

    def succeeded(self) -> None:
        """Note that the model has just answered."""
        self.last_success = time.monotonic()

    async def smoke(self) -> None:
        """Run the warm-up inputs as a request would be run."""
        await self.run(self.warm.inputs, tuple(self.signature.outputs))


def _measure(engine: Engine, inputs: Mapping[str, Array]) -> float:
    names = tuple(engine.signature.outputs)
    seconds = _timed(engine, inputs, names).seconds
    if seconds > WORTH_REPEATING:
        return seconds
    return min(_timed(engine, inputs, names).seconds for _ in range(REPEATS))


def _timed(engine: Engine, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Execution:
    started = time.perf_counter()
    arrays = engine.run(inputs, outputs)
    return Execution(arrays, time.perf_counter() - started)


def _bytes_within(budget: float, warm: WarmUp, bulk: WarmUp | None) -> float:
    """Return the bytes of inputs up to which a run takes no more than so many seconds."""
    size = max(_bytes(warm.inputs), 1)
    proportional = budget / max(warm.seconds, 1e-9) * size
    if bulk is None or warm.seconds > budget:
        return proportional
    slope = max(bulk.seconds - warm.seconds, 1e-9) / (_bytes(bulk.inputs) - size)
    # Beyond what was measured nothing is known.
    return max(proportional, min(size + (budget - warm.seconds) / slope, _bytes(bulk.inputs)))


def _rows_per_second(run: WarmUp) -> float:
    return len(next(iter(run.inputs.values()))) / max(run.seconds, 1e-9)


def _bytes(inputs: Mapping[str, Array]) -> int:
    # A generator would cost more than all the rest of a small request's batching.
    size = 0
    for array in inputs.values():
        # An array of strings holds pointers alone.
        size += array.nbytes if array.dtype.char != "O" else array.nbytes + sum(map(len, array.ravel()))
    return size
