"""Whether the server is alive and ready: asked of the models, not of a flag."""

import asyncio
import time
from typing import Final

from onceserve_serving.engine.runner import Runner
from onceserve_serving.errors import NotReadyError, OnceServeError
from onceserve_serving.lifecycle import Lifecycle, Phase
from onceserve_serving.repository import Repository
from onceserve_serving.served import ServedModel, State

FRESH: Final = 1.0
"""Seconds for which one success of a model proves it well, so that probes cost next to nothing."""

WARM_UPS: Final = 4
"""Multiple of the warm-up run that a smoke inference may take if that is longer than its deadline."""


class Health:
    """Answers the probes. Deadlines are in seconds."""

    def __init__(
        self, repository: Repository, lifecycle: Lifecycle, *, inference_deadline: float, smoke_deadline: float
    ) -> None:
        self._repository = repository
        self._lifecycle = lifecycle
        self._inference_deadline = inference_deadline
        self._smoke_deadline = smoke_deadline
        self._smokes: dict[Runner, asyncio.Task[None]] = {}

    def describe(self) -> str:
        """Return the server's phase in words for a person."""
        return self._lifecycle.describe()

    def check_live(self) -> None:
        """Raise NotReadyError if a run is stuck or none can begin.

        That this is called at all shows that the event loop turns. Fetching and loading take their time: they are no
        runs.
        """
        for model in self._loaded():
            self._check_running(model.name, model.runner())

    async def check_ready(self) -> None:
        """Raise NotReadyError, with the reason, unless every loaded model has just answered or answers now."""
        self._check_phase()
        await asyncio.gather(*(self._check_model(model) for model in self._loaded()))

    async def check_model(self, name: str, version: str | None = None) -> None:
        """Raise NotReadyError unless this model answers; raises UnknownModelError."""
        model = self._repository.get(name, version)
        self._check_phase()
        await self._check_model(model)

    def _loaded(self) -> list[ServedModel]:
        return [model for model in self._repository.models() if model.state is State.READY]

    def _check_phase(self) -> None:
        if self._lifecycle.phase is not Phase.READY:
            raise NotReadyError(self._lifecycle.describe())

    def _check_running(self, name: str, runner: Runner) -> None:
        if not runner.thread.alive:
            raise NotReadyError(f"the inference thread of model {name!r} has ended; the server must be restarted")
        stuck = runner.thread.busy_for()
        if stuck > self._inference_deadline:
            raise NotReadyError(
                f"an inference of model {name!r} has been running for {stuck:.0f} s, "
                f"allowed are {self._inference_deadline:g}"
            )

    async def _check_model(self, model: ServedModel) -> None:
        runner = model.runner()
        self._check_running(model.name, runner)
        if time.monotonic() - runner.last_success <= FRESH:
            return
        # A probe behind a queue of long runs would call a busy server unready; its runs are proof enough.
        if runner not in self._smokes and runner.thread.busy:
            return
        await self._ask(model.name, runner)

    async def _ask(self, name: str, runner: Runner) -> None:
        deadline = max(self._smoke_deadline, WARM_UPS * runner.warm.seconds)
        # One smoke inference at a time: probes of a stuck model must not pile up behind it.
        smoke = self._smokes.get(runner) or asyncio.create_task(runner.smoke())
        self._smokes[runner] = smoke
        done, _ = await asyncio.wait({smoke}, timeout=deadline)
        if not done:
            raise NotReadyError(f"model {name!r} did not answer its smoke inference within {deadline:g} s")
        self._smokes.pop(runner, None)
        _check(name, smoke)


def _check(name: str, smoke: asyncio.Task[None]) -> None:
    try:
        smoke.result()
    except OnceServeError as error:
        raise NotReadyError(f"model {name!r} failed its smoke inference: {error}") from error
