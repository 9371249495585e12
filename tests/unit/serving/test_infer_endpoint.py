"""The infer endpoint, driven as the connection drives it."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import numpy as np
import orjson
import pytest

from onceserve_serving import app, errors
from onceserve_serving.admission import Admission, Capacity
from onceserve_serving.api import body
from onceserve_serving.api.open_inference import Exchange, InferEndpoint
from onceserve_serving.codec import compression
from onceserve_serving.engine import ort
from onceserve_serving.engine.runner import Runner, warm_up
from onceserve_serving.engine.thread import InferenceThread
from onceserve_serving.health import Health
from onceserve_serving.http_protocol import Head
from onceserve_serving.lifecycle import Lifecycle
from onceserve_serving.pipeline import Pipeline
from onceserve_serving.served import ServedModel, Terms
from onceserve_serving.telemetry import Telemetry
from unit.serving import models
from unit.serving.serving import repository_of

BODY = orjson.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]})
PATH = "/v2/models/m/infer"


class Edge:
    """The endpoint over a real model; `ask` sends one request in pieces and returns status, headers and body."""

    def __init__(self, content: bytes | None = None, max_body_bytes: int = 1_000) -> None:
        self.telemetry = Telemetry()
        self.model = ServedModel("m", "1", Terms(self.telemetry))
        if content:
            engine = ort.load(content, 1)
            self.model.install(Runner(engine, InferenceThread(), warm_up(engine)))
        self.repository = repository_of(self.model)
        pipeline = Pipeline(timeout=30)
        self.endpoint = InferEndpoint(self.repository, pipeline, self.telemetry, max_body_bytes)

    async def ask(
        self,
        *pieces: bytes,
        path: str = PATH,
        method: str = "POST",
        **headers: str,
    ) -> Any:
        exchange = self.open(path=path, method=method, **headers)
        for piece in pieces:
            if exchange.refusal is None:
                exchange.add(piece)
        answer = exchange.refusal or await exchange.answer()
        return answer.status, dict(answer.headers), b"".join(answer.pieces)

    def open(self, path: str = PATH, method: str = "POST", **headers: str) -> Exchange:
        named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        return self.endpoint.open(Head(method, path.encode(), dict(named), named))

    def counted(self, code: int) -> float | None:
        labels = {"code": str(code), "protocol": "http"}
        return self.telemetry.registry.get_sample_value("onceserve_requests_total", labels)


@pytest.mark.parametrize("pieces", [[BODY], [BODY[:5], BODY[5:]], [b"", *(bytes([one]) for one in BODY)]])
async def test_a_body_may_come_in_pieces(pieces: list[bytes]) -> None:
    edge = Edge(models.identity())
    status, headers, body = await edge.ask(*pieces)
    assert (status, headers[b"content-type"]) == (200, b"application/json")
    assert int(headers[b"content-length"]) == len(body)
    assert orjson.loads(body)["outputs"][0]["data"] == [1.0, 2.0, 3.0]
    assert edge.counted(200) == 1


@pytest.mark.parametrize("path", [PATH, "/v2/models/m/versions/1/infer"])
@pytest.mark.parametrize("media_type", ["application/json", "Application/JSON; charset=utf-8"])
async def test_every_form_of_the_route_is_served(path: str, media_type: str) -> None:
    assert (await Edge(models.identity()).ask(BODY, path=path, content_type=media_type))[0] == 200


@pytest.mark.parametrize(
    ("status", "words", "asked"),
    [
        (404, "no model 'other' here; this server serves 'm'", {"path": "/v2/models/other/infer"}),
        (404, "model 'm' has no version '2' here", {"path": "/v2/models/m/versions/2/infer"}),
        (404, "names no model", {"path": "/v2/models/infer"}),
        (404, "names no model", {"path": "/v2/models/m/versions/infer"}),
        (404, "names no model", {"path": "/v2/models/m/v/1/infer"}),
        (405, "GET is not served here", {"method": "GET"}),
        (413, "more than 1000 bytes", {"content_length": "1001"}),
        (415, "'text/plain' is not served: expected application/json", {"content_type": "text/plain"}),
        (415, "Content-Encoding 'br' is not served: expected gzip, deflate or zstd", {"content_encoding": "br"}),
        (400, "the body is not gzip: it ends too early", {"content_encoding": "gzip"}),
        (400, "the body is not JSON", {"content_length": "²"}),
        (400, "is 10, and the body has 0 bytes", {"inference_header_content_length": "10"}),
        *(
            (400, "Inference-Header-Content-Length must be", {"inference_header_content_length": one})
            for one in ("", "-1", "1.0", "0x2", "9" * 5_000)
        ),
        *(
            (400, "X-Request-Timeout must be", {"x_request_timeout": one})
            for one in ("", "0", "0ms", "-1", "nan", "inf", "1e3", "1h", "1 2", "9" * 5_000)
        ),
    ],
)
async def test_each_refusal_has_its_status_and_words(status: int, words: str, asked: dict[str, str]) -> None:
    edge = Edge(models.identity())
    answered, headers, body = await edge.ask(b"", **asked)
    problem = orjson.loads(body)
    assert (answered, headers[b"content-type"]) == (status, b"application/problem+json")
    assert words in problem["error"]
    assert problem["detail"] == problem["error"]
    assert problem["status"] == status
    assert problem["type"].startswith("urn:onceserve:problem:")
    assert problem["title"]
    assert edge.counted(status) == 1


async def test_a_body_that_grows_beyond_the_limit_is_cut_off() -> None:
    edge = Edge(models.identity())
    assert (await edge.ask(*[b"x" * 400] * 1_000))[0] == 413


async def test_a_model_that_is_not_loaded_asks_to_come_back() -> None:
    status, headers, body = await Edge().ask(BODY)
    assert (status, headers[b"retry-after"]) == (503, b"1")
    assert "the model is loading" in orjson.loads(body)["error"]


async def test_a_client_that_leaves_before_its_request_is_complete_is_counted() -> None:
    edge = Edge(models.identity())
    exchange = edge.open()
    exchange.add(BODY[:5])
    exchange.abandon()
    assert edge.counted(499) == 1
    assert edge.telemetry.inflight.count == 0


async def test_a_client_that_leaves_a_refused_request_is_counted_once() -> None:
    edge = Edge(models.identity())
    edge.open(method="GET").abandon()
    assert (edge.counted(405), edge.counted(499)) == (1, None)
    assert edge.telemetry.inflight.count == 0


async def test_a_client_that_leaves_while_it_waits_is_waited_for_no_more() -> None:
    edge = Edge(models.identity())
    edge.endpoint.pipeline = SimpleNamespace(infer=_never)  # type: ignore[assignment]
    exchange = edge.open()
    exchange.add(BODY)
    answering = asyncio.create_task(exchange.answer())
    await asyncio.sleep(0)
    answering.cancel()
    await asyncio.wait({answering})
    assert answering.cancelled()
    assert edge.counted(499) == 1
    assert edge.telemetry.inflight.count == 0


async def _never(*_: Any) -> None:
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize(
    ("error", "status", "header"),
    [
        (errors.OverloadedError("busy", 2.2), 429, (b"retry-after", b"3")),
        (errors.OverloadedError("busy", 0.01), 429, (b"retry-after", b"1")),
        (errors.DeadlineExceededError("late"), 504, (b"content-type", b"application/problem+json")),
        (errors.NotReadyError("not yet"), 503, (b"retry-after", b"1")),
    ],
)
async def test_what_cannot_be_answered_now_says_when(
    error: Exception, status: int, header: tuple[bytes, bytes]
) -> None:
    edge = Edge(models.identity())
    edge.endpoint.pipeline = SimpleNamespace(infer=AsyncMock(side_effect=error))  # type: ignore[assignment]
    answered, headers, body = await edge.ask(BODY)
    assert (answered, orjson.loads(body)["detail"]) == (status, str(error))
    assert header in headers.items()


@pytest.mark.parametrize(
    ("given", "seconds"), [("1.5", 1.5), ("2s", 2), ("250ms", 0.25), (" 3 s ", 3), ("0.5 ms", 0.0005)]
)
async def test_a_timeout_is_a_deadline(given: str, seconds: float) -> None:
    edge = Edge(models.identity())
    infer = AsyncMock(side_effect=errors.DeadlineExceededError("late"))
    edge.endpoint.pipeline = SimpleNamespace(infer=infer)  # type: ignore[assignment]
    before = time.monotonic()
    await edge.ask(BODY, x_request_timeout=given)
    deadline = infer.call_args[0][0].deadline
    assert before + seconds <= deadline <= time.monotonic() + seconds


async def test_a_request_keeps_its_id() -> None:
    edge = Edge(models.identity())
    assert (await edge.ask(BODY, x_request_id="q-1"))[1][b"x-request-id"] == b"q-1"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
async def test_compressed_bodies_are_taken_and_given(coding: str) -> None:
    edge = Edge(models.identity(shape=["N"]), max_body_bytes=200_000)
    tensor = {"name": "x", "datatype": "FP32", "shape": [20_000], "data": [0.25] * 20_000}
    body = compression.compress([orjson.dumps({"inputs": [tensor]})], coding)
    plain = await edge.ask(body, content_encoding=coding)
    assert b"content-encoding" not in plain[1]
    status, headers, answer = await edge.ask(body, content_encoding=coding, accept_encoding=coding)
    assert (status, headers[b"content-encoding"]) == (200, coding.encode())
    assert int(headers[b"content-length"]) == len(answer) < len(plain[2]) / 10
    assert compression.decompress(answer, coding, 10**6) == plain[2]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
async def test_a_bomb_is_refused(coding: str) -> None:
    edge = Edge(models.identity())
    status, _, _ = await edge.ask(compression.compress([bytes(1_001)], coding), content_encoding=coding)
    assert status == 413


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("padding", range(4))
async def test_large_binary_bodies_are_used_where_they_lie(declared: bool, padding: int) -> None:
    edge = Edge(models.identity(), max_body_bytes=10**6)
    rows = np.arange(90_000, dtype=np.float32).reshape(-1, 3)
    parameters = {"binary_data_size": rows.nbytes}
    tensor = {"name": "x", "datatype": "FP32", "shape": rows.shape, "parameters": parameters}
    header = orjson.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}) + b" " * padding
    body = header + rows.tobytes()
    pieces = [body[start : start + 10_000] for start in range(0, len(body), 10_000)]
    lengths: dict[str, Any] = {"content_length": str(len(body))} if declared else {}
    status, headers, answer = await edge.ask(
        *pieces, content_type="application/octet-stream", inference_header_content_length=str(len(header)), **lengths
    )
    assert (status, headers[b"content-type"]) == (200, b"application/octet-stream")
    assert answer[int(headers[b"inference-header-content-length"]) :] == rows.tobytes()


@pytest.mark.parametrize("offset", [0, 1, 106, 4_095])
def test_room_is_aligned_where_the_tensors_begin(offset: int) -> None:
    room = np.frombuffer(body._aligned(10_000, offset), dtype=np.uint8)
    assert (room.ctypes.data + offset) % body.ALIGNMENT == 0
    assert len(room) == 10_000


@pytest.mark.parametrize("came", [0, 1, 5_000])
async def test_the_rest_of_a_body_can_be_brought_to_where_it_is_used(came: int) -> None:
    edge = Edge(models.identity(), max_body_bytes=10**6)
    tensor = {"name": "x", "datatype": "FP32", "shape": [2_000, 3], "data": [0.5] * 6_000}
    asked = orjson.dumps({"inputs": [tensor]})
    exchange = edge.open(content_length=str(len(asked)))
    exchange.add(asked[:came])
    room = exchange.room()
    assert room is not None
    room[:] = asked[came:]
    answer = await exchange.answer()
    assert answer.status == 200
    assert orjson.loads(answer.pieces[0])["outputs"][0]["shape"] == [2_000, 3]


async def test_a_body_of_unknown_length_has_no_room_of_its_own() -> None:
    exchange = Edge(models.identity()).open()
    exchange.add(BODY[:5])
    assert exchange.room() is None


async def test_what_would_be_refused_is_refused_before_much_of_a_body_comes() -> None:
    edge = Edge(models.identity(), max_body_bytes=10**6)
    capacity = Capacity(concurrency=1, queue=0, queue_bytes=10)
    edge.model._admission = Admission(capacity, edge.telemetry.rejected)
    assert edge.open(content_length="100000").refusal is None
    assert edge.model._admission.enter_now()
    refusal = edge.open(content_length="100000").refusal
    assert refusal is not None
    assert refusal.status == 429


async def test_an_unexpected_error_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    edge = Edge(models.identity())
    broken = SimpleNamespace(signature=edge.model.signature)
    edge.model.install(broken)  # type: ignore[arg-type]
    status, _, body = await edge.ask(BODY)
    assert status == 500
    assert "unexpected error" in orjson.loads(body)["error"]
    assert "AttributeError" in caplog.text
    assert "AttributeError" not in body.decode()


async def test_executions_are_counted_when_the_model_ran() -> None:
    edge = Edge(models.unary("Log"))
    assert (await edge.ask(BODY))[0] == 200
    assert (await edge.ask(BODY.replace(b"[1,2,3]", b"[-1,2,3]")))[0] == 500
    assert (await edge.ask(b"{}"))[0] == 400
    assert edge.telemetry.registry.get_sample_value("onceserve_executions_total") == 2


def test_the_application_documents_its_routes() -> None:
    edge = Edge()
    health = Health(edge.repository, Lifecycle(), inference_deadline=1, smoke_deadline=1)
    paths = app.Management(edge.repository, health, edge.telemetry).openapi()["paths"]
    assert {"/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/{name}", "/metrics"} <= paths.keys()
