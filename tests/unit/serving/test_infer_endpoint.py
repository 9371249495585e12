"""The raw ASGI endpoint, driven as a server would."""

from typing import Any

import orjson
import pytest

from onceserve_serving import app
from onceserve_serving.api.open_inference import InferEndpoint
from onceserve_serving.engine import ort
from onceserve_serving.engine.runner import Runner, warm_up
from onceserve_serving.engine.thread import InferenceThread
from onceserve_serving.health import Health
from onceserve_serving.lifecycle import Lifecycle, Phase
from onceserve_serving.pipeline import Pipeline
from onceserve_serving.served import ServedModel
from onceserve_serving.telemetry import Telemetry
from unit.serving import models

BODY = orjson.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]})
PATH = "/v2/models/m/infer"


class Edge:
    """The endpoint over a real model; `ask` sends one request in pieces and returns status, headers and body."""

    def __init__(self, content: bytes | None = None, max_body_bytes: int = 1_000) -> None:
        self.telemetry = Telemetry()
        self.model = ServedModel("m", "1", Lifecycle())
        if content:
            engine = ort.load(content, 1)
            self.model.install(Runner(engine, InferenceThread(), warm_up(engine)))
            self.model.lifecycle.advance(Phase.READY)
        pipeline = Pipeline(self.model, self.telemetry)
        self.endpoint = InferEndpoint(self.model, pipeline, self.telemetry, max_body_bytes)

    async def ask(
        self, *pieces: bytes, path: str = PATH, method: str = "POST", gone: bool = False, **headers: str
    ) -> Any:
        named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        messages.append({"type": "http.disconnect"} if gone else {"type": "http.request", "body": b""})
        sent: list[Any] = []

        async def receive() -> Any:
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        await self.endpoint({"type": "http", "method": method, "path": path, "headers": named}, receive, send)
        if not sent:
            return None
        return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]

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
        (415, "binary tensors are not served", {"inference_header_content_length": "10"}),
        (415, "compressed bodies are not served", {"content_encoding": "gzip"}),
        (400, "the body is not JSON", {"content_length": "²"}),
    ],
)
async def test_each_refusal_has_its_status_and_words(status: int, words: str, asked: dict[str, str]) -> None:
    edge = Edge(models.identity())
    answered, headers, body = await edge.ask(b"", **asked)  # type: ignore[arg-type]
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
    assert "the server is starting" in orjson.loads(body)["error"]


async def test_a_client_that_leaves_gets_no_answer_and_is_counted() -> None:
    edge = Edge(models.identity())
    assert await edge.ask(BODY[:5], gone=True) is None
    assert edge.counted(499) == 1
    assert edge.telemetry.inflight.count == 0


async def test_an_unexpected_error_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    edge = Edge(models.identity())
    edge.model.install(object())  # type: ignore[arg-type]
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
    health = Health(edge.model, InferenceThread(), inference_deadline=1, smoke_deadline=1)
    paths = app.create_app(edge.model, health, edge.telemetry).openapi()["paths"]
    assert {"/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/{name}", "/metrics"} <= paths.keys()
