"""Which requests are the same one: a real model behind the REST endpoint, a key, and a store in memory."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from onceserve_serving.api.open_inference import InferEndpoint
from onceserve_serving.edge import Edge
from onceserve_serving.engine import ort
from onceserve_serving.engine.runner import Runner, warm_up
from onceserve_serving.engine.thread import InferenceThread
from onceserve_serving.http_protocol import Head
from onceserve_serving.idempotency.guard import Guard, Terms
from onceserve_serving.idempotency.keys import Keys
from onceserve_serving.idempotency.memory import MemoryStore
from onceserve_serving.idempotency.renewal import Renewal
from onceserve_serving.pipeline import Pipeline
from onceserve_serving.served import DEFAULT_CAPACITY, ServedModel
from onceserve_serving.telemetry import Telemetry
from unit.serving import models
from unit.serving.serving import repository_of

PATH = "/v2/models/m/infer"
JSON, OCTETS = "application/json", "application/octet-stream"


def body(*values: float) -> bytes:
    return orjson.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": values}]})


BODY = body(1, 2, 3)


class Client:
    """Asks with the key `k` unless told otherwise; returns status, headers and body."""

    def __init__(self, endpoint: InferEndpoint) -> None:
        self._endpoint = endpoint

    async def ask(self, content: bytes = BODY, path: str = PATH, **headers: str) -> Any:
        headers = {"idempotency_key": "k", "content_type": JSON, **headers}
        named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        exchange = self._endpoint.open(Head("POST", path.encode(), dict(named), named))
        if exchange.refusal is None:
            exchange.add(content)
        answer = exchange.refusal or await exchange.answer()
        return answer.status, dict(answer.headers), b"".join(answer.pieces)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    model, telemetry, store = ServedModel("m", "1"), Telemetry(), MemoryStore()
    engine, thread = ort.load(models.identity(), 1), InferenceThread()
    model.install(Runner(engine, thread, warm_up(engine)))
    guard = Guard(
        store, Renewal(store, 30), Terms(30, 300, fail_open=False, ledger=False, recalls=DEFAULT_CAPACITY), telemetry
    )
    pipeline = Pipeline(timeout=30, guard=guard)
    yield Client(InferEndpoint(repository_of(model), pipeline, telemetry, 1_000, edge=Edge(keys=Keys(taken=True))))
    thread.close()


async def test_the_same_request_has_the_same_bytes_and_says_so(client: Client) -> None:
    first, again = await client.ask(), await client.ask(idempotency_key='"k"', x_request_id="other", prefer="wait=1")
    assert (first[0], again[0], again[2]) == (200, 200, first[2])
    assert first[1][b"idempotency-attempt"] == b"1"
    assert again[1][b"idempotent-replayed"] == b"true"
    assert first[1][b"idempotency-model-version"] == again[1][b"idempotency-model-version"] == b"1"


@pytest.mark.parametrize(
    "other",
    [
        {"content": body(1, 2, 4)},
        {"content": BODY + b" "},
        {"path": PATH + "?a=b"},
        {"content_type": JSON + "; charset=utf-8"},
        {"content_type": OCTETS, "inference_header_content_length": str(len(BODY))},
        {"inference_header_content_length": str(len(BODY))},
    ],
    ids=["values", "spelling", "query", "parameters", "binary", "header length"],
)
async def test_another_request_is_refused(client: Client, other: dict[str, Any]) -> None:
    first = await client.ask()
    status, headers, refusal = await client.ask(**other)
    assert status == 422
    assert headers[b"content-type"] == b"application/problem+json"
    assert orjson.loads(refusal)["type"] == "urn:onceserve:problem:idempotency-key-reused"
    assert (await client.ask())[2] == first[2]


async def test_another_key_is_another_request(client: Client) -> None:
    answers = [await client.ask(body(n, 0, 0), idempotency_key=f"k{n}") for n in range(3)]
    assert len({answer[2] for answer in answers}) == 3


async def test_what_is_refused_before_the_claim_is_not_kept(client: Client) -> None:
    assert (await client.ask(b"{}"))[0] == 400
    assert (await client.ask(idempotency_key='"k'))[0] == 400
    assert (await client.ask())[0] == 200
