"""grpc.aio, stopped our way: no call that reached the machine is lost."""

import asyncio
import time
from typing import Final

import grpc

from onceserve_serving.api.grpc import sockets
from onceserve_serving.api.grpc.handlers import Handlers
from onceserve_serving.api.grpc.health import HealthService
from onceserve_serving.api.grpc.inference import Infer
from onceserve_serving.api.grpc.service import Service
from onceserve_serving.edge import Edge
from onceserve_serving.errors import InvalidSettingsError
from onceserve_serving.health import Health
from onceserve_serving.pipeline import Pipeline
from onceserve_serving.repository import Repository
from onceserve_serving.settings import Settings
from onceserve_serving.telemetry import Telemetry

CONNECTION_AGE: Final = 10.0
"""Seconds after which a connection is asked to go, which loses no call; a stop of gRPC's core cancels what arrives just
then. So a drain lets the connections come of age, and new pods get their share of the old ones' clients."""

LEAST_AGE: Final = 1.0

LARGEST: Final = 2**31 - 1
"""Bytes that a message of gRPC can have."""

PINGS: Final = 10.0
"""Seconds between two keepalive pings that a client may send; by gRPC's own five minutes many clients would be cut."""

STREAMS: Final = 1024
"""Calls that one connection may have open."""

ROOM: Final = 2
"""Multiple of the limit up to which a message is still read, to be refused in words and counted. Larger ones gRPC's
core refuses as soon as it sees their length, and tells nobody but the client."""

SETTLE: Final = 0.1
"""Seconds for handshakes that are on their way when the listener is about to close."""

QUIET: Final = 1.0
"""Seconds without a call after which open connections are nothing to wait for."""

GRACE: Final = 0.5
"""Seconds that health watches and other streams have to end."""

LOOK: Final = 0.05
"""Seconds between two looks at the connections, of whose end gRPC tells nobody."""


class GrpcServer:
    """Serves the repository over gRPC; made within the event loop, with the port bound."""

    def __init__(
        self,
        *,
        repository: Repository,
        pipeline: Pipeline,
        health: Health,
        telemetry: Telemetry,
        settings: Settings,
        edge: Edge,
    ) -> None:
        """Raise InvalidSettingsError if the port cannot be listened on."""
        self._drain_timeout = settings.drain_timeout
        self._infer = Infer(repository, pipeline, telemetry, edge, settings)
        self._health = HealthService(health)
        self._server = grpc.aio.server(options=_options(settings))
        self._server.add_generic_rpc_handlers(
            Handlers(edge).all(Service(repository, health), self._infer, self._health)
        )
        self.port = self._bind(settings, edge)

    async def start(self) -> None:
        """Take calls."""
        await self._server.start()

    def announce_drain(self) -> None:
        """Tell those who watch the health that no new traffic is taken; all calls are still answered."""
        self._health.draining.set()

    async def stop(self, now: asyncio.Event) -> None:
        """Refuse connections, let the open ones end without losing a call, and stop; at once when `now` is set."""
        self._health.draining.set()
        leaving, forced = asyncio.create_task(self._leave()), asyncio.create_task(now.wait())
        await asyncio.wait({leaving, forced}, timeout=self._drain_timeout, return_when=asyncio.FIRST_COMPLETED)
        self._health.closing.set()
        await self._server.stop(GRACE if leaving.done() else None)
        leaving.cancel()
        forced.cancel()

    async def _leave(self) -> None:
        sockets.hold_back_listeners(self.port)
        await asyncio.sleep(SETTLE)
        sockets.close_listeners(self.port)
        calls, quiet_since = self._infer.calls, time.monotonic()
        while self._infer.running or (sockets.connections(self.port) and time.monotonic() - quiet_since < QUIET):
            await asyncio.sleep(LOOK)
            if self._infer.running or self._infer.calls != calls:
                calls, quiet_since = self._infer.calls, time.monotonic()

    def _bind(self, settings: Settings, edge: Edge) -> int:
        host = settings.host or "::"
        address = f"[{host}]:{settings.grpc_port}" if ":" in host else f"{host}:{settings.grpc_port}"
        try:
            if edge.tls is None:
                return int(self._server.add_insecure_port(address))
            return int(self._server.add_secure_port(address, edge.tls.grpc_credentials()))
        except RuntimeError as error:
            where = f"{settings.host or 'all addresses'} port {settings.grpc_port}"
            raise InvalidSettingsError(f"--grpc-port (or ONCESERVE_GRPC_PORT): cannot listen on {where}") from error


def _options(settings: Settings) -> list[tuple[str, int]]:
    # Connections of the last moment before a drain must come of age before its end.
    age = min(CONNECTION_AGE, max(settings.drain_timeout / 2, LEAST_AGE))
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", min(ROOM * settings.max_body_bytes, LARGEST)),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", STREAMS),
        ("grpc.max_connection_age_ms", _milliseconds(age)),
        ("grpc.max_connection_age_grace_ms", _milliseconds(settings.inference_deadline)),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", _milliseconds(PINGS)),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
