"""Models come and go while others, and their own former selves, go on answering."""

import asyncio
import time
from collections.abc import Callable

import numpy as np
import pytest

from onceserve_contract.termination import FailureReason
from onceserve_serving.catalog import Source
from onceserve_serving.engine import ort
from onceserve_serving.engine.runner import Runner, warm_up
from onceserve_serving.engine.thread import InferenceThread
from onceserve_serving.errors import (
    DeadlineExceededError,
    InvalidRequestError,
    ModelUnavailableError,
    NotReadyError,
    UnknownModelError,
)
from onceserve_serving.pipeline import Call, Pipeline
from onceserve_serving.repository import Repository, Row
from onceserve_serving.served import ServedModel, State
from onceserve_serving.tensors import InferenceRequest, Signature
from unit.serving import models

SOURCES = {name: Source(name, "1", name) for name in ("a", "b")}


class Shelf:
    """A repository whose loads go on when their gate is open, and fail when told to."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: ModelUnavailableError | None = None
        self.repository = Repository(self._load, lambda: SOURCES)
        self.pipeline = Pipeline(timeout=30)

    async def _load(self, _: Source, model: ServedModel) -> None:
        await self.gate.wait()
        if self.failure:
            raise self.failure
        engine = ort.load(models.identity(), 1)
        model.install(Runner(engine, InferenceThread(), warm_up(engine)))

    async def ask(
        self, decode: Callable[[Signature], InferenceRequest] | None = None, deadline: float | None = None
    ) -> float:
        call = Call(self.repository.get("a"), 10, decode or request, deadline)
        out = await self.pipeline.infer(call)
        assert (out.model, out.version, out.request.id) == ("a", "1", "i")
        return float(out.arrays[0][0, 0])

    def states(self) -> dict[str, State]:
        return {row.name: row.state for row in self.repository.index()}


def request(_: Signature) -> InferenceRequest:
    return InferenceRequest("i", {"x": np.ones((1, 3), dtype=np.float32)}, ("y",))


async def test_what_is_not_asked_for_is_in_the_index_alone() -> None:
    shelf = Shelf()
    assert shelf.states() == {"a": State.UNLOADED, "b": State.UNLOADED}
    await shelf.repository.load("a")
    assert shelf.states() == {"a": State.READY, "b": State.UNLOADED}
    assert shelf.repository.names() == ["a"]
    assert await shelf.ask() == 1.0


@pytest.mark.parametrize("name", ["c", "b"])
async def test_a_name_that_is_none_is_said_so(name: str) -> None:
    shelf = Shelf()
    await shelf.repository.load("a")
    with pytest.raises(UnknownModelError, match=f"no model '{name}' here; this server serves 'a'"):
        shelf.repository.get(name)
    with pytest.raises(UnknownModelError, match="has no version '2' here; it has '1'"):
        shelf.repository.get("a", "2")
    with pytest.raises(UnknownModelError, match="no model 'c' to load"):
        await shelf.repository.load("c")
    with pytest.raises(UnknownModelError):
        await shelf.repository.unload(name)


async def test_a_model_that_is_expected_is_loading() -> None:
    shelf = Shelf()
    shelf.repository.expect("a")
    with pytest.raises(NotReadyError, match="the model is loading"):
        await shelf.ask()


async def test_a_load_that_fails_says_why_and_can_be_tried_again() -> None:
    shelf = Shelf()
    shelf.failure = ModelUnavailableError(FailureReason.LOAD_FAILED, "it is garbage")
    with pytest.raises(ModelUnavailableError):
        await shelf.repository.load("a")
    assert Row("a", "1", State.UNAVAILABLE, "it is garbage") in shelf.repository.index()
    with pytest.raises(NotReadyError, match="could not be loaded: it is garbage"):
        await shelf.ask()
    shelf.failure = None
    await shelf.repository.load("a")
    assert await shelf.ask() == 1.0


async def test_loading_again_never_interrupts_and_a_failure_keeps_what_was_there() -> None:
    shelf = Shelf()
    await shelf.repository.load("a")
    before = shelf.repository.get("a")
    shelf.gate.clear()
    loading = asyncio.create_task(shelf.repository.load("a"))
    await asyncio.sleep(0)
    assert await shelf.ask() == 1.0
    shelf.gate.set()
    await loading
    assert shelf.repository.get("a") is not before
    assert await shelf.ask() == 1.0
    shelf.failure = ModelUnavailableError(FailureReason.NOT_FOUND, "gone")
    with pytest.raises(ModelUnavailableError):
        await shelf.repository.load("a")
    assert await shelf.ask() == 1.0


async def test_unloading_waits_for_what_has_come_and_takes_no_more() -> None:
    shelf = Shelf()
    await shelf.repository.load("a")
    model = shelf.repository.get("a")
    thread = model.runner().thread
    _, admission, _ = model.journey()
    assert admission.enter_now()
    unloading = asyncio.create_task(shelf.repository.unload("a"))
    await asyncio.sleep(0)
    with pytest.raises(NotReadyError, match="unloaded"):
        await shelf.ask()
    assert not unloading.done()
    admission.leave()
    await asyncio.wait_for(unloading, 1)
    assert shelf.states()["a"] is State.UNLOADED
    assert model.signature is None
    while thread.alive:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    await shelf.repository.load("a")
    assert await shelf.ask() == 1.0


async def test_whatever_happens_to_a_request_it_leaves() -> None:
    shelf = Shelf()
    await shelf.repository.load("a")
    _, admission, _ = shelf.repository.get("a").journey()

    def bad(_: Signature) -> InferenceRequest:
        raise InvalidRequestError("bad")

    with pytest.raises(InvalidRequestError):
        await shelf.ask(bad)
    with pytest.raises(DeadlineExceededError):
        await shelf.ask(bad, deadline=time.monotonic() - 1)
    assert admission.active == 0
    assert shelf.repository.queued() == 0
