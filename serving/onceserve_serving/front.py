"""What requests meet first that are no inference: probes at once, as verifications; all else by way of FastAPI."""

import asyncio
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from onceserve_serving.api import verification
from onceserve_serving.api.probes import PATHS, Probes
from onceserve_serving.api.verification import Verification
from onceserve_serving.edge import Edge
from onceserve_serving.health import Health
from onceserve_serving.repository import Repository
from onceserve_serving.telemetry import Telemetry


class Deferred:
    """An application that is made when it is first asked; the event loop goes on meanwhile.

    FastAPI takes a quarter of the time that the server needs to start, and most pods are never asked for it.
    """

    def __init__(self, make: Callable[[], ASGIApp]) -> None:
        self._make = make
        self._making: asyncio.Task[ASGIApp] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._making is None:
            self._making = asyncio.create_task(asyncio.to_thread(self._make))
        # A client that leaves must not take it from the next.
        app = await asyncio.shield(self._making)
        await app(scope, receive, send)


def create_server(
    repository: Repository,
    health: Health,
    telemetry: Telemetry,
    verifying: Verification,
    *,
    edge: Edge | None = None,
) -> ASGIApp:
    """Return the application."""
    edge = edge or Edge()
    probes = Probes(health, telemetry)

    def make_management() -> ASGIApp:
        from onceserve_serving import app  # noqa: PLC0415

        return app.create_management(repository, health, telemetry, edge)

    management = Deferred(make_management)

    async def server(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] in PATHS and scope["method"] == "GET":
            await probes(scope, send)
        elif scope["type"] == "http" and scope["path"] == verification.PATH:
            await verifying(scope, receive, send)
        else:
            await management(scope, receive, send)

    return server
