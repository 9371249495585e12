"""Runs an engine without holding up the event loop."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from onceserve_contract.termination import FailureReason
from onceserve_serving.engine import Engine
from onceserve_serving.engine.signature import warm_up_inputs
from onceserve_serving.engine.thread import InferenceThread
from onceserve_serving.errors import ModelUnavailableError, OnceServeError
from onceserve_serving.tensors import Array, Signature

LOOP_BUDGET: Final = 0.001
"""Seconds that a run may hold up the event loop: a hop to the thread costs some 30 µs, so shorter runs stay."""

WORTH_REPEATING: Final = 0.05
REPEATS: Final = 4


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


class Runner:
    """A warm model: short runs on the event loop, long ones in the inference thread."""

    def __init__(self, engine: Engine, thread: InferenceThread, warm: WarmUp) -> None:
        self.signature: Signature = engine.signature
        self.warm = warm
        self.thread = thread
        self.last_success = time.monotonic()
        self._engine = engine
        self._short_bytes = LOOP_BUDGET / max(warm.seconds, 1e-9) * max(_bytes(warm.inputs), 1)

    async def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Execution:
        """Run the model; raises InvalidRequestError or ExecutionFailedError."""
        if _bytes(inputs) <= self._short_bytes:
            execution = _timed(self._engine, inputs, outputs)
        else:
            execution = await self.thread.call(lambda: _timed(self._engine, inputs, outputs))
        self.last_success = time.monotonic()
        return execution

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


def _bytes(inputs: Mapping[str, Array]) -> int:
    return sum(array.nbytes for array in inputs.values())
