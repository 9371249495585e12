"""A server on loopback that stands for pods, each at an address of its own, and for a Prometheus."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from onceserve_contract import http, verification

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

SHA = "ab" * 32


@dataclass
class Pods:
    """Pods that answer by their address as they are told; one that nothing is told of answers rightly."""

    port: int = 0
    behaviours: dict[str, Handler] = field(default_factory=dict)
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    bodies: list[Any] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    now: int = 0
    most: int = 0
    """How many were being answered at once, now and at most."""
    requests: dict[str, dict[str, int]] = field(default_factory=dict)
    """By address: what has been counted, by code."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        address = request.url.host or ""
        self.calls[address, request.path] += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await self.behaviours.get(address, self.right)(request)
        finally:
            self.now -= 1

    async def right(self, request: web.Request) -> web.StreamResponse:
        if request.path == http.METRICS_PATH:
            return web.Response(text=exposition(self.requests.get(request.url.host or "", {})))
        if request.path == verification.PATH:
            body = await request.json()
            self.bodies.append(body)
            self.tokens.append(request.headers[verification.HEADER])
            return web.json_response(right_answer(body["requests"]))
        form = await request.post()
        self.bodies.append(form["query"])
        return prometheus("0.25")


def right_answer(requests: Sequence[Any]) -> dict[str, Any]:
    whole = {"name": "y", "datatype": "FP32", "shape": [1]}
    smoke, told = ({"outputs": [output], "finite": True} for output in (whole, whole | {"data": [0.5]}))
    answers = [told if request["data"].get("y") == [1] else smoke for request in requests]
    return {"name": "m", "version": "r", "sha256": SHA, "smoke": smoke, "answers": answers}


def prometheus(number: str) -> web.Response:
    data = {"resultType": "vector", "result": [{"metric": {}, "value": [0, number]}]}
    return web.json_response({"status": "success", "data": data})


def exposition(requests: dict[str, int]) -> str:
    lines = ["# TYPE onceserve_requests_total counter"]
    lines += [f'onceserve_requests_total{{code="{code}",protocol="http"}} {n}' for code, n in requests.items()]
    lines.append("# TYPE onceserve_request_duration_seconds histogram")
    for bound in ("0.1", "1.0", "+Inf"):
        lines.append(f'onceserve_request_duration_seconds_bucket{{le="{bound}"}} {sum(requests.values())}')
    return "\n".join(lines) + "\n"


async def slow(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(30)
    raise AssertionError("nobody waits so long")


async def closes(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def drips(request: web.Request) -> web.StreamResponse:
    """A byte now and then, so that no single read takes long."""
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(600):
        await response.write(b" ")
        await asyncio.sleep(0.02)
    return response


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"x" * 100_000)


def says(body: str | bytes, status: int = 200, **headers: str) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers=headers)

    return handle


@asynccontextmanager
async def serving() -> AsyncIterator[Pods]:
    """Yield pods that answer at every loopback address."""
    pods = Pods()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", pods.handle)
    # Cancels what it still answers as soon as its caller leaves, so that slow ones hold up no test.
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "0.0.0.0", 0).start()
        pods.port = runner.addresses[0][1]
        yield pods
    finally:
        await runner.cleanup()
