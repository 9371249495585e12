"""A TCP proxy on loopback that can lose what passes through it, in either direction."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Self

CHUNK = 2**16


class Proxy:
    """Passes on to a port of this machine, in the loop that entered its block.

    While `requests` or `replies` is off, what goes that way vanishes, and connections stay open.
    """

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.requests = True
        self.replies = True
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._serving)

    def heal(self) -> None:
        """Pass everything on again, over new connections: those that lost bytes are of no use any more."""
        self.requests = self.replies = True
        self.cut()

    def cut(self) -> None:
        """Break all connections."""
        for writer in self._writers:
            writer.transport.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, upstream_writer}
        self._writers |= ends
        await asyncio.gather(
            _pass(reader, upstream_writer, lambda: self.requests), _pass(upstream_reader, writer, lambda: self.replies)
        )
        self._writers -= ends


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passes: Callable[[], bool]) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(CHUNK):
            if passes():
                writer.write(piece)
                await writer.drain()
    writer.transport.abort()
