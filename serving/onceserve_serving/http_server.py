"""uvicorn, stopped our way: no request that reached the machine is lost."""

import asyncio
import contextlib
import math
import socket
import ssl
import time
from collections.abc import Iterator
from itertools import chain
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from onceserve_contract.http import SERVED_BY_HEADER
from onceserve_serving.http_protocol import Endpoint, protocol_factory
from onceserve_serving.listener import BACKLOG, accept_waiting, hold_back
from onceserve_serving.settings import Settings

CLOSE: Final = (b"connection", b"close")

SETTLE: Final = 0.1
"""Seconds for handshakes that are on their way when the listener is about to close."""

LINGER: Final = 1.0
"""Seconds that open connections have after the listener closed to bring the request that is already on its way."""


class HttpServer(uvicorn.Server):
    """Serves until `should_exit`; the composition root owns the signals."""

    def __init__(self, app: ASGIApp, endpoint: Endpoint, settings: Settings, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol_factory(endpoint),  # type: ignore[arg-type]
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                proxy_headers=False,
                headers=[(SERVED_BY_HEADER, settings.pod_name)],
                backlog=BACKLOG,
                timeout_keep_alive=math.ceil(settings.keep_alive),
                timeout_graceful_shutdown=math.ceil(settings.drain_timeout),
                ssl_context_factory=None if tls is None else lambda *_: tls,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone: uvicorn would stop accepting at once, before load balancers know."""
        yield

    def announce_close(self) -> None:
        """Ask every client to reconnect elsewhere after its next answer."""
        # uvicorn makes its default headers anew each second from the configuration, hence both.
        self.config.encoded_headers.append(CLOSE)
        self.server_state.default_headers = [*self.server_state.default_headers, CLOSE]

    def force(self) -> None:
        """Stop now, cutting what is in flight."""
        self.should_exit = self.force_exit = True
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the listener, answer what had connected, then let uvicorn end what is in flight."""
        for listener in sockets or []:
            hold_back(listener)
        await asyncio.sleep(SETTLE)
        await self._close_listeners(sockets or [])
        await self._linger()
        await super().shutdown(sockets)

    async def _close_listeners(self, listeners: list[socket.socket]) -> None:
        # uvicorn's closing does not end a listener of which there is another descriptor: it only stops accepting.
        spares = [listener.dup() for listener in listeners]
        for server in self.servers:
            server.close()
        # Together: over TLS each has a handshake to do, and a client that is silent must not hold up the others.
        waiting = chain.from_iterable(map(accept_waiting, spares))
        await asyncio.gather(*(self._serve_connection(connection) for connection in waiting))

    async def _serve_connection(self, connection: socket.socket) -> None:
        def protocol() -> asyncio.Protocol:
            return self.config.http_protocol_class(  # type: ignore[call-arg]
                config=self.config, server_state=self.server_state, app_state={}
            )

        tls = self.config.ssl
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().connect_accepted_socket(
                protocol, connection, ssl=tls, ssl_handshake_timeout=LINGER if tls else None
            )

    async def _linger(self) -> None:
        end = time.monotonic() + LINGER
        # uvicorn tells nobody when a connection ends.
        while self.server_state.connections and time.monotonic() < end and not self.force_exit:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
