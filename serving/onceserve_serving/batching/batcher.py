"""Takes the requests that are waiting through the model together, and each caller's answer back to it."""

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from onceserve_serving import observation
from onceserve_serving.batching.execution import Results, run_one_by_one, run_together
from onceserve_serving.batching.flush import ALONE, BURST, Limits, cut
from onceserve_serving.batching.tensors import has_rows, key_of, rows_of
from onceserve_serving.engine.runner import LOOP_BUDGET, Runner
from onceserve_serving.errors import DeadlineExceededError, too_late
from onceserve_serving.telemetry import Telemetry
from onceserve_serving.tensors import Array

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Waiter:
    """A request that waits for the model, and the future that its caller awaits.

    Once its run has begun: when that was, when it ended, and how many requests went together.
    """

    key: Hashable
    rows: int
    seconds: float
    arrived: float
    deadline: float
    inputs: Mapping[str, Array]
    outputs: Sequence[str]
    answer: "asyncio.Future[Sequence[Array]]"
    began: float = 0.0
    ended: float = 0.0
    together: int = 0

    @property
    def abandoned(self) -> bool:
        """Whether its caller has left."""
        return self.answer.done()


class Batcher:
    """Runs requests to one model: what is waiting when the model is free goes together, or else one after another.

    A long batch is run in the inference thread, and what arrives meanwhile is the next batch. A short one is run on the
    event loop at the end of the iteration in which it arrived; while requests come one at a time, each is run at once.
    In haste, longer ones are run there, too: what comes meanwhile, most of it to be refused, does not interrupt them.
    """

    def __init__(
        self,
        model: str,
        runner: Runner,
        limits: Limits,
        telemetry: Telemetry,
        *,
        merges: bool,
        in_haste: Callable[[], bool],
    ) -> None:
        self._model = model
        self._runner = runner
        self._limits = limits
        self._telemetry = telemetry
        self._in_haste = in_haste
        self._merges = merges and limits.rows > 1
        self._has_rows = merges or has_rows(runner.signature)
        self._waiting: list[Waiter] = []
        self._running: asyncio.Task[None] | None = None
        self._flushing = False
        self._crowded = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    async def run(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], arrived: float, deadline: float
    ) -> Sequence[Array]:
        """Return the named outputs for these inputs.

        Raises InvalidRequestError, ExecutionFailedError, or DeadlineExceededError if the run could not begin in time;
        never because of another request.
        """
        if self._is_free and self._runner.is_short(inputs) and time.monotonic() < deadline:
            return self._run_now(inputs, outputs, arrived)
        rows = rows_of(inputs) if self._has_rows else None
        merges = self._merges and rows is not None
        key = key_of(inputs, outputs) if merges else ALONE
        seconds = 0.0 if merges else self._runner.expected(inputs)
        loop = self._loop or self._found_loop()
        answer: asyncio.Future[Sequence[Array]] = loop.create_future()
        waiter = Waiter(key, rows or 1, seconds, arrived, deadline, inputs, outputs, answer)
        self._enqueue(loop, waiter)
        try:
            return await answer
        except asyncio.CancelledError:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            raise
        finally:
            observation.ran(arrived, waiter.began, waiter.ended, waiter.together)

    @property
    def _is_free(self) -> bool:
        return not (self._crowded or self._flushing or self._waiting or self._running or self._limits.delay)

    def _run_now(self, inputs: Mapping[str, Array], outputs: Sequence[str], arrived: float) -> Sequence[Array]:
        began = time.monotonic()
        self._telemetry.began(began - arrived)
        # Who else comes in this iteration of the loop waits for its end, and shows that there is a crowd.
        self._wake(self._loop or self._found_loop())
        try:
            answer, seconds = self._runner.execute(inputs, outputs)
        finally:
            observation.ran(arrived, began, 0.0, 1)
        self._telemetry.executed(seconds, rows=(rows_of(inputs) if self._has_rows else None) or 1, requests=1)
        self._runner.succeeded()
        return answer

    def _found_loop(self) -> asyncio.AbstractEventLoop:
        # Asked each time, it would ask the kernel for the process's id each time.
        self._loop = asyncio.get_running_loop()
        return self._loop

    def _enqueue(self, loop: asyncio.AbstractEventLoop, waiter: Waiter) -> None:
        self._waiting.append(waiter)
        if self._running is None:
            self._wake(loop)
        else:
            self._look_at(loop, waiter.deadline)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._flushing:
            self._flushing = True
            loop.call_soon(self._flush)

    def _look_at(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        """Look again no later than then, however long the model runs."""
        if self._timer is not None:
            if self._timer_at <= when:
                return
            self._timer.cancel()
        self._timer_at = when
        self._timer = loop.call_later(max(when - time.monotonic(), 0.0), self._look)

    def _look(self) -> None:
        self._timer = None
        if self._running is None:
            self._flush()
            return
        now = time.monotonic()
        late = [waiter for waiter in self._waiting if waiter.deadline <= now]
        self._waiting = [waiter for waiter in self._waiting if waiter.deadline > now]
        self._refuse(late)
        self._watch_deadlines(asyncio.get_running_loop())

    def _watch_deadlines(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._waiting:
            self._look_at(loop, min(waiter.deadline for waiter in self._waiting))

    def _flush(self) -> None:
        self._flushing = False
        if self._running is not None or not self._waiting:
            return
        self._crowded = len(self._waiting) > 1 or not self._crowded
        now = time.monotonic()
        expired, batch, self._waiting, again = cut(self._waiting, self._limits, now)
        self._refuse(expired)
        loop = asyncio.get_running_loop()
        if batch:
            self._start(loop, batch, now)
        elif again is not None:
            self._look_at(loop, again)

    def _start(self, loop: asyncio.AbstractEventLoop, batch: list[Waiter], now: float) -> None:
        alone = batch[0].key is ALONE
        # When those begin who follow the first is known when they have run.
        for waiter in batch[:1] if alone else batch:
            self._telemetry.began(now - waiter.arrived)
        if self._is_short(batch, alone=alone):
            self._settle(batch, self._execute(batch))
            # Between two batches the loop serves its connections.
            if self._waiting:
                self._wake(loop)
        else:
            self._running = loop.create_task(self._run_in_thread(batch))
            self._watch_deadlines(loop)

    def _is_short(self, batch: Sequence[Waiter], *, alone: bool) -> bool:
        budget = BURST if self._in_haste() else LOOP_BUDGET
        if alone:
            return sum(waiter.seconds for waiter in batch) <= budget
        return self._runner.is_short(*(waiter.inputs for waiter in batch), budget=budget)

    async def _run_in_thread(self, batch: list[Waiter]) -> None:
        try:
            results = await self._runner.thread.call(lambda: self._execute(batch))
        except Exception as error:
            results = Results([error] * len(batch))
        self._running = None
        self._settle(batch, results)
        self._flush()

    def _execute(self, batch: Sequence[Waiter]) -> Results:
        run = run_one_by_one if batch[0].key is ALONE else run_together
        return run(self._runner, batch)

    def _refuse(self, late: Sequence[Waiter]) -> None:
        for waiter in late:
            self._telemetry.rejected("deadline")
            if not waiter.answer.done():
                waiter.answer.set_exception(too_late())

    def _settle(self, batch: Sequence[Waiter], results: Results) -> None:
        for run in results.runs:
            self._telemetry.executed(run.seconds, rows=run.rows, requests=run.requests)
        if results.runs:
            self._runner.succeeded()
        if results.unsplittable is not None and self._merges:
            self._merges = False
            log.warning("model %s is not batched any more: %s", self._model, results.unsplittable)
        done = batch[: len(results.outcomes)]
        if batch[0].key is ALONE:
            self._follow_up(done[1:], batch[len(done) :])
        for waiter, outcome in zip(done, results.outcomes, strict=True):
            self._answer(waiter, outcome)

    def _follow_up(self, followed: Sequence[Waiter], left: Sequence[Waiter]) -> None:
        for waiter in followed:
            if waiter.began:
                self._telemetry.began(waiter.began - waiter.arrived)
        if left:
            living = [waiter for waiter in left if not waiter.abandoned]
            self._waiting = sorted([*living, *self._waiting], key=lambda waiter: waiter.arrived)

    def _answer(self, waiter: Waiter, outcome: Sequence[Array] | Exception) -> None:
        if waiter.answer.done():
            return
        if isinstance(outcome, DeadlineExceededError):
            self._refuse([waiter])
        elif isinstance(outcome, Exception):
            waiter.answer.set_exception(outcome)
        else:
            waiter.answer.set_result(outcome)
