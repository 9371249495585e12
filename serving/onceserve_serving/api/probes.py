"""What kubelets and Prometheus ask, as a raw ASGI endpoint: a pod that only serves never needs the framework."""

from collections.abc import Mapping
from typing import Final

import orjson
from prometheus_client.exposition import choose_encoder
from starlette.types import Scope, Send

from onceserve_contract import http
from onceserve_serving.api.asgi import JSON, Answer, respond
from onceserve_serving.health import Health
from onceserve_serving.telemetry import Telemetry

PATHS: Final = frozenset({http.LIVE_PATH, http.READY_PATH, http.METRICS_PATH})


class Probes:
    """GET of health and metrics."""

    def __init__(self, health: Health, telemetry: Telemetry) -> None:
        self._health = health
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, send: Send) -> None:
        """Answer one request for one of the paths."""
        await respond(send, self._answer(scope))

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
