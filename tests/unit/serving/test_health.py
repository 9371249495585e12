import asyncio
import threading
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from onceserve_serving import health as module
from onceserve_serving.engine import Engine, ort
from onceserve_serving.engine.runner import Runner, WarmUp
from onceserve_serving.engine.thread import InferenceThread
from onceserve_serving.errors import NotReadyError
from onceserve_serving.health import Health
from onceserve_serving.lifecycle import Lifecycle, Phase
from onceserve_serving.served import ServedModel
from onceserve_serving.tensors import Array
from unit.serving import models
from unit.serving.serving import repository_of

INPUTS = {"x": np.zeros((1, 3), dtype=np.float32)}


class Server:
    """A served model with its health; every run goes through the inference thread."""

    def __init__(self, inputs: Mapping[str, Array] = INPUTS, engine: Engine | None = None) -> None:
        self.lifecycle = Lifecycle()
        self.thread = InferenceThread()
        self.model = ServedModel("m", "1")
        self.runner = Runner(engine or ort.load(models.identity(), 1), self.thread, WarmUp(inputs, 0.01))
        self.health = Health(repository_of(self.model), self.lifecycle, inference_deadline=0.2, smoke_deadline=0.05)

    def ready(self) -> "Server":
        self.model.install(self.runner)
        self.lifecycle.advance(Phase.READY)
        self.runner.last_success -= 2 * module.FRESH
        return self


async def busy(server: Server, gate: threading.Event) -> asyncio.Task[bool]:
    task = asyncio.create_task(server.thread.call(gate.wait))
    while not server.thread.busy:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    return task


@pytest.mark.parametrize(
    ("phase", "words"), [(Phase.STARTING, "starting"), (Phase.LOADING, "loading"), (Phase.DRAINING, "draining")]
)
async def test_only_a_ready_server_is_ready_and_says_why_not(phase: Phase, words: str) -> None:
    server = Server()
    server.lifecycle.advance(phase)
    with pytest.raises(NotReadyError, match=words):
        await server.health.check_ready()
    server.health.check_live()


async def test_readiness_asks_the_model_and_asks_again_only_after_a_while() -> None:
    server = Server().ready()
    stale = server.runner.last_success
    await server.health.check_ready()
    asked = server.runner.last_success
    assert asked > stale
    await server.health.check_ready()
    assert server.runner.last_success == asked


async def test_a_model_that_fails_is_not_ready_with_the_models_words() -> None:
    server = Server({"x": np.zeros((1, 4), dtype=np.float32)}).ready()
    with pytest.raises(NotReadyError, match="failed its smoke inference: the model refuses these inputs"):
        await server.health.check_ready()


async def test_a_busy_server_is_ready_until_a_run_passes_its_deadline() -> None:
    server, gate = Server().ready(), threading.Event()
    running = await busy(server, gate)
    await server.health.check_ready()
    while server.thread.busy_for() <= 0.2:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    with pytest.raises(NotReadyError, match="an inference of model 'm' has been running"):
        server.health.check_live()
    with pytest.raises(NotReadyError, match="an inference of model 'm' has been running"):
        await server.health.check_ready()
    gate.set()
    await running


async def test_a_server_whose_inference_thread_has_ended_is_neither_alive_nor_ready() -> None:
    server = Server().ready()
    server.thread.close()
    while server.thread.alive:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    with pytest.raises(NotReadyError, match="the inference thread of model 'm' has ended"):
        server.health.check_live()
    with pytest.raises(NotReadyError, match="the inference thread of model 'm' has ended"):
        await server.health.check_ready()


async def test_the_server_is_ready_when_all_its_models_are_and_each_answers_for_itself() -> None:
    server = Server().ready()
    broken = ServedModel("broken", "1")
    bad = {"x": np.zeros((1, 4), dtype=np.float32)}
    broken.install(Runner(ort.load(models.identity(), 1), InferenceThread(), WarmUp(bad, 0.01)))
    broken.runner().last_success -= 2 * module.FRESH
    health = Health(
        repository_of(server.model, broken, ServedModel("loading", "1")),
        server.lifecycle,
        inference_deadline=0.2,
        smoke_deadline=0.05,
    )
    await health.check_model("m")
    for failing in (health.check_ready(), health.check_model("broken")):
        with pytest.raises(NotReadyError, match="model 'broken' failed its smoke inference"):
            await failing
    with pytest.raises(NotReadyError, match="the model is loading"):
        await health.check_model("loading")
    await broken.retire()
    await health.check_ready()


async def test_a_smoke_inference_that_hangs_is_asked_once_and_waited_for_again() -> None:
    engine = Gated()
    server = Server(engine=engine).ready()
    for _ in range(2):
        with pytest.raises(NotReadyError, match=r"did not answer its smoke inference within 0\.05 s"):
            await server.health.check_ready()
    engine.gate.set()
    await server.health.check_ready()
    assert engine.runs == 1


class Gated(ort.OrtEngine):
    """A real engine that runs when its gate opens."""

    def __init__(self) -> None:
        super().__init__(ort.load(models.identity(), 1)._session)
        self.gate = threading.Event()
        self.runs = 0

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        self.gate.wait()
        self.runs += 1
        return super().run(inputs, outputs)
