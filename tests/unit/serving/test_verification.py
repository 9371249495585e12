import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import pytest

from onceserve_contract.verification import HEADER, PATH, key
from onceserve_serving.api.verification import Verification
from onceserve_serving.engine import ort
from onceserve_serving.engine.runner import Runner, WarmUp
from onceserve_serving.engine.thread import InferenceThread
from onceserve_serving.served import ServedModel
from onceserve_serving.tensors import Array
from unit.serving import models
from unit.serving.serving import repository_of

TOKEN = "a token"
LONG_RUN = 10.0
"""Seconds that the warm-up is said to have taken, so that all runs go to the inference thread."""
GOOD = [{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}], "data": {"y": [1, 3]}}]


class Gated(ort.OrtEngine):
    """A real engine that runs when its gate opens."""

    def __init__(self) -> None:
        super().__init__(ort.load(models.identity(), 1)._session)
        self.gate = threading.Event()
        self.runs = 0

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        self.runs += 1
        assert self.gate.wait(10)
        return super().run(inputs, outputs)


@pytest.fixture
def engine() -> Iterator[Gated]:
    engine = Gated()
    yield engine
    engine.gate.set()


def model_of(engine: ort.OrtEngine, rows: int = 1, columns: int = 3) -> ServedModel:
    model = ServedModel("m", "r1")
    inputs = {"x": np.zeros((rows, columns), np.float32)}
    model.install(Runner(engine, InferenceThread(), WarmUp(inputs, LONG_RUN)), merges=True, sha256="ab")
    return model


def verification_of(*served: ServedModel, patience: float = 10) -> Verification:
    return Verification(repository_of(*served), key(TOKEN), max_body_bytes=1000, patience=patience)


async def ask(verification: Verification, *requests: Any) -> tuple[int, Any]:
    return await send(verification, {"type": "http.request", "body": orjson.dumps({"requests": requests})})


async def send(verification: Verification, *messages: dict[str, Any]) -> tuple[int, Any]:
    coming, sent = iter(messages), list[Any]()

    async def receive() -> Any:
        return next(coming)

    async def collect(message: Any) -> None:
        sent.append(message)

    headers = [(HEADER.encode(), TOKEN.encode())]
    await verification(
        {"type": "http", "method": "POST", "path": PATH, "headers": headers, "query_string": b""}, receive, collect
    )
    return sent[0]["status"], orjson.loads(sent[1]["body"])


async def test_an_example_that_the_model_refuses_is_an_error_in_its_words() -> None:
    verification = verification_of(model_of(ort.load(models.identity(), 1), columns=4))
    status, report = await ask(verification, *GOOD)
    assert status == 200
    assert "the model refuses these inputs" in report["smoke"]["error"]
    assert report["answers"][0]["outputs"][0]["data"] == [1, 2, 3]


async def test_data_is_answered_where_it_is_asked_for() -> None:
    verification = verification_of(model_of(ort.load(models.identity(), 1)))
    silent = [{**GOOD[0], "data": data} for data in ({}, {"y": [3, 1]}, {"z": [1, 3]})]
    without = {"inputs": GOOD[0]["inputs"]}
    status, report = await ask(verification, *GOOD, *silent, without)
    whole = {"name": "y", "datatype": "FP32", "shape": [1, 3]}
    assert status == 200
    assert [one["outputs"] for one in (report["smoke"], *report["answers"])] == [
        [whole],
        [{**whole, "data": [1, 2, 3]}],
        *[[whole]] * 4,
    ]


async def test_an_error_that_nobody_thought_of_is_told_in_words_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    engine = Gated()
    engine.gate = None  # type: ignore[assignment]
    status, report = await ask(verification_of(model_of(engine)), *GOOD)
    assert status == 200
    assert (
        report["smoke"]
        == report["answers"][0]
        == {"error": "the server met an unexpected error; its log has the details"}
    )
    assert "'NoneType' object has no attribute 'wait'" in caplog.text


async def test_a_run_that_does_not_end_ends_the_verification_and_not_the_next(engine: Gated) -> None:
    verification = verification_of(model_of(engine), patience=0.1)
    status, problem = await ask(verification, *GOOD)
    assert (status, problem["detail"]) == (503, "model 'm' did not answer within 0.1 s")
    assert engine.runs == 1
    engine.gate.set()
    status, report = await ask(verification, *GOOD)
    assert (status, report["answers"][0]["finite"]) == (200, True)
    assert engine.runs == 3


async def test_there_is_one_verification_at_a_time(engine: Gated) -> None:
    verification = verification_of(model_of(engine))
    first = asyncio.create_task(ask(verification, *GOOD))
    while not engine.runs:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    status, problem = await ask(verification)
    assert (status, problem["detail"]) == (503, "model 'm' is being verified; ask again when that is over")
    engine.gate.set()
    assert (await first)[0] == 200
    assert (await ask(verification))[0] == 200


async def test_one_that_is_given_up_makes_room(engine: Gated) -> None:
    verification = verification_of(model_of(engine))
    first = asyncio.create_task(ask(verification))
    while not engine.runs:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    engine.gate.set()
    assert (await ask(verification))[0] == 200


async def test_only_a_loaded_model_is_asked() -> None:
    model = model_of(ort.load(models.identity(), 1))
    status, problem = await ask(verification_of(ServedModel("m", "r1")))
    assert (status, problem["detail"]) == (503, "model 'm' does not answer: the model is loading")
    await model.retire()
    status, problem = await ask(verification_of(model))
    assert (status, problem["detail"]) == (503, "model 'm' does not answer: the model has been unloaded")


async def test_a_server_of_none_or_several_models_says_so() -> None:
    for served in ([], [ServedModel("a", "1"), ServedModel("b", "1")]):
        status, problem = await ask(verification_of(*served))
        assert (status, problem["detail"]) == (
            404,
            f"a verification asks the one model of a server, and this one has {len(served)}",
        )


async def test_a_body_may_come_in_pieces_up_to_its_limit() -> None:
    verification = verification_of(model_of(ort.load(models.identity(), 1)))
    body = orjson.dumps({"requests": GOOD})
    pieces = [{"type": "http.request", "body": bytes([one]), "more_body": True} for one in body]
    status, report = await send(verification, *pieces, {"type": "http.request"})
    assert (status, len(report["answers"])) == (200, 1)
    status, problem = await send(verification, *pieces, {"type": "http.request", "body": b" " * 1000})
    assert (status, problem["type"]) == (413, "urn:onceserve:problem:payload-too-large")


async def test_a_caller_who_leaves_in_the_middle_is_not_waited_for() -> None:
    verification = verification_of(model_of(ort.load(models.identity(), 1)))
    begun = {"type": "http.request", "body": b"{", "more_body": True}
    status, problem = await send(verification, begun, {"type": "http.disconnect"})
    assert (status, problem["detail"]) == (400, "the caller left before its body was complete")
