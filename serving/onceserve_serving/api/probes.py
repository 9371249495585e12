"""What kubelets and Prometheus ask, as a raw ASGI endpoint: a pod that only serves never needs the framework."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import orjson
from prometheus_client.exposition import choose_encoder
from starlette.types import Scope, Send

from onceserve_contract import http
from onceserve_serving.api.problems import problem_of
from onceserve_serving.health import Health
from onceserve_serving.telemetry import Telemetry

PATHS: Final = frozenset({http.LIVE_PATH, http.READY_PATH, http.METRICS_PATH})
JSON: Final = {"Content-Type": "application/json"}


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Probes:
    """GET of health and metrics."""

    def __init__(self, health: Health, telemetry: Telemetry) -> None:
        self._health = health
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, send: Send) -> None:
        """Answer one request for one of the paths."""
        try:
            status, headers, body = await self._answer(scope)
        except Exception as error:
            status, headers, body = problem_of(error)
        named = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        named.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": named})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope) -> Answer:
        if scope["path"] == http.METRICS_PATH:
            return self._metrics(dict(scope["headers"]))
        if scope["path"] == http.LIVE_PATH:
            self._health.check_live()
            return Answer(200, JSON, orjson.dumps({"live": True}))
        await self._health.check_ready()
        return Answer(200, JSON, orjson.dumps({"ready": True}))

    def _metrics(self, headers: Mapping[bytes, bytes]) -> Answer:
        encode, content_type = choose_encoder(headers.get(b"accept", b"").decode("latin-1"))
        return Answer(200, {"Content-Type": content_type}, encode(self._telemetry.registry))
