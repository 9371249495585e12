"""grpc.health.v1.Health, answered by asking the models.

The health of gRPC's own package is a table that others fill; ours cannot be out of date.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from onceserve_serving.api.grpc.service import NAME
from onceserve_serving.errors import NotReadyError, UnknownModelError
from onceserve_serving.health import Health

PERIOD: Final = 1.0
"""Seconds between two looks for those who watch; the start of draining they learn at once."""

SERVING: Final = HealthCheckResponse.SERVING
NOT_SERVING: Final = HealthCheckResponse.NOT_SERVING
UNKNOWN: Final = HealthCheckResponse.SERVICE_UNKNOWN


class HealthService:
    """Knows the whole server as an empty name or the inference service's, and each model by its own."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self.draining = asyncio.Event()
        self.closing = asyncio.Event()

    async def Check(self, request: HealthCheckRequest) -> HealthCheckResponse:  # noqa: N802
        """Answer once; raises UnknownModelError."""
        status = await self._status(request.service)
        if status == UNKNOWN:
            raise UnknownModelError(f"there is no service and no model {request.service[:256]!r} here")
        return HealthCheckResponse(status=status)

    async def watch(self, request: HealthCheckRequest) -> AsyncIterator[HealthCheckResponse]:
        """Answer now and at each change, until the server closes."""
        last: int | None = None
        while not self.closing.is_set():
            status = await self._status(request.service)
            if status != last:
                yield HealthCheckResponse(status=status)
            last = status
            await self._pause()

    async def _status(self, service: str) -> HealthCheckResponse.ServingStatus:
        try:
            if service in ("", NAME):
                await self._health.check_ready()
            else:
                await self._health.check_model(service)
        except UnknownModelError:
            return UNKNOWN
        except NotReadyError:
            return NOT_SERVING
        return SERVING

    async def _pause(self) -> None:
        # Once it drains, nothing changes any more.
        awaited = self.closing if self.draining.is_set() else self.draining
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(awaited.wait(), PERIOD)
