"""Whether the server is alive and ready: asked of the model, not of a flag."""

import asyncio
import time
from typing import Final

from onceserve_serving.engine.runner import Runner
from onceserve_serving.engine.thread import InferenceThread
from onceserve_serving.errors import NotReadyError, OnceServeError
from onceserve_serving.lifecycle import Phase
from onceserve_serving.served import ServedModel

FRESH: Final = 1.0
"""Seconds for which one success of the model proves it well, so that probes cost next to nothing."""

WARM_UPS: Final = 4
"""Multiple of the warm-up run that a smoke inference may take if that is longer than its deadline."""


class Health:
    """Answers the probes. Deadlines are in seconds."""

    def __init__(
        self, model: ServedModel, thread: InferenceThread, *, inference_deadline: float, smoke_deadline: float
    ) -> None:
        self._model = model
        self._thread = thread
        self._inference_deadline = inference_deadline
        self._smoke_deadline = smoke_deadline
        self._smoke: asyncio.Task[None] | None = None

    def check_live(self) -> None:
        """Raise NotReadyError if a run is stuck; that this is called at all shows that the event loop turns.

        Fetching and loading run in the same thread and may take long: they are not runs.
        """
        if self._model.signature is None:
            return
        stuck = self._thread.busy_for()
        if stuck > self._inference_deadline:
            raise NotReadyError(
                f"an inference has been running for {stuck:.0f} s, allowed are {self._inference_deadline:g}"
            )

    async def check_ready(self) -> None:
        """Raise NotReadyError, with the reason, unless the model has just answered or answers now."""
        lifecycle = self._model.lifecycle
        if lifecycle.phase is not Phase.READY:
            raise NotReadyError(lifecycle.describe())
        self.check_live()
        runner = self._model.runner()
        if time.monotonic() - runner.last_success <= FRESH:
            return
        # A probe behind a queue of long runs would call a busy server unready; its runs are proof enough.
        if self._smoke is None and self._thread.busy:
            return
        await self._ask(runner)

    async def _ask(self, runner: Runner) -> None:
        deadline = max(self._smoke_deadline, WARM_UPS * runner.warm.seconds)
        # One smoke inference at a time: probes of a stuck model must not pile up behind it.
        self._smoke = self._smoke or asyncio.create_task(runner.smoke())
        done, _ = await asyncio.wait({self._smoke}, timeout=deadline)
        if not done:
            raise NotReadyError(f"the model did not answer its smoke inference within {deadline:g} s")
        smoke, self._smoke = done.pop(), None
        _check(smoke)


def _check(smoke: asyncio.Task[None]) -> None:
    try:
        smoke.result()
    except OnceServeError as error:
        raise NotReadyError(f"the model failed its smoke inference: {error}") from error
