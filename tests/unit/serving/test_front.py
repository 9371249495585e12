import asyncio
import threading
from typing import Any

import orjson
import pytest
from starlette.types import Receive, Scope, Send

from onceserve_serving import front
from onceserve_serving.api.verification import Verification
from onceserve_serving.front import Deferred
from onceserve_serving.health import Health
from onceserve_serving.lifecycle import Lifecycle, Phase
from onceserve_serving.telemetry import Telemetry
from unit.serving.serving import repository_of


async def ask(app: Any, path: str, method: str = "GET") -> tuple[int, bytes]:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b""}
    await app(scope, receive, send)
    return sent[0]["status"], sent[1]["body"]


async def test_an_application_is_made_once_and_by_whom_it_is_first_needed() -> None:
    gate, made = threading.Event(), []

    async def hello(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    def make() -> Any:
        gate.wait(5)
        made.append(threading.current_thread())
        return hello

    deferred = Deferred(make)
    leaver, *others = [asyncio.create_task(ask(deferred, "/")) for _ in range(3)]
    await asyncio.sleep(0)
    leaver.cancel()
    await asyncio.gather(leaver, return_exceptions=True)
    gate.set()
    assert await asyncio.gather(*others) == [(200, b"hello")] * 2
    assert await ask(deferred, "/") == (200, b"hello")
    assert len(made) == 1
    assert made[0] is not threading.current_thread()


@pytest.mark.parametrize("phase", [Phase.LOADING, Phase.READY])
async def test_probes_say_the_same_with_and_without_the_framework(phase: Phase) -> None:
    lifecycle, telemetry, repository = Lifecycle(), Telemetry(), repository_of()
    lifecycle.advance(phase)
    health = Health(repository, lifecycle, inference_deadline=1, smoke_deadline=1)
    verification = Verification(repository, "", max_body_bytes=1, patience=1)
    server = front.create_server(repository, health, telemetry, verification)
    for path in ("/v2/health/live", "/v2/health/ready"):
        quick, thorough = await ask(server, path), await ask(server, path, "HEAD")
        assert quick[0] == thorough[0]
        assert orjson.loads(quick[1]) == orjson.loads(thorough[1])
    status, text = await ask(server, "/metrics")
    assert status == 200
    assert b"onceserve_requests_total" in text
