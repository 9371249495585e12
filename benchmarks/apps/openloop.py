"""Requests at a fixed rate, whether or not answers come: what an overload is. wrk waits for each answer and cannot.

`python -m benchmarks.apps.openloop` reads one JSON object (see `Order`) and prints one (see `Outcome`).
"""

import asyncio
import gc
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

DRAIN: Final = 10.0
"""Seconds for answers that are still on their way when the last request is sent."""
TICK: Final = 0.001


@dataclass(frozen=True)
class Order:
    """What to send: the file holds the whole request as it goes over the wire."""

    port: int
    request: str
    rate: float
    seconds: float
    connections: int


@dataclass
class Outcome:
    """What came back; latencies in milliseconds from the moment at which a request was due."""

    seconds: float = 0.0
    sent: int = 0
    unsent: int = 0
    """Requests that were due while every connection waited for an answer."""
    broken: int = 0
    good_in_time: int = 0
    """Answers with 200 that came before the last request was sent."""
    statuses: Counter[int] = field(default_factory=Counter)
    good: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)


class Connection(asyncio.Protocol):
    """A keep-alive connection with one request at a time."""

    def __init__(self, ended: Callable[["Connection", int], None]) -> None:
        self.due: float | None = None
        self._ended = ended
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to write."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport

    def send(self, request: bytes, due: float) -> None:
        """Send a request that was due at this time."""
        assert self._transport is not None  # noqa: S101
        self.due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end >= 0 and len(self._buffer) >= end + 4 + content_length(bytes(self._buffer[:end])):
            status = int(self._buffer[9:12])
            self._buffer.clear()
            self._ended(self, status)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell of a request that will have no answer."""
        del exc
        self._ended(self, 0)

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.abort()


def content_length(head: bytes) -> int:
    """Return the length of the body that a head announces; 0 without one."""
    lines = (line.partition(b":") for line in head.lower().split(b"\r\n"))
    return next((int(value) for name, _, value in lines if name == b"content-length"), 0)


class Load:
    """One overload."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._request = Path(order.request).read_bytes()
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._end = 0.0
        self.outcome = Outcome()

    async def run(self, drain: float = DRAIN) -> Outcome:
        """Send at the rate for the ordered time, then wait some seconds for the rest."""
        for _ in range(self._order.connections):
            await self._connect()
        started = time.perf_counter()
        self._end = started + self._order.seconds
        await self._send_all(started)
        await self._drain(drain)
        self.outcome.seconds = self._order.seconds
        for connection in list(self._open):
            connection.close()
        while self._open:  # noqa: ASYNC110  aborted transports tell so in the loop's next turns
            await asyncio.sleep(0)
        return self.outcome

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(self._ended), "127.0.0.1", self._order.port)
        self._open.add(connection)
        self._idle.append(connection)

    async def _send_all(self, started: float) -> None:
        total, done = int(self._order.rate * self._order.seconds), 0
        while done < total:
            now = time.perf_counter()
            due = min(total, int((now - started) * self._order.rate) + 1)
            for number in range(done, due):
                self._send(started + number / self._order.rate)
            done = due
            await asyncio.sleep(TICK)

    def _send(self, due: float) -> None:
        if not self._idle:
            self.outcome.unsent += 1
            return
        self.outcome.sent += 1
        self._idle.pop().send(self._request, due)

    def _ended(self, connection: Connection, status: int) -> None:
        now, due, connection.due = time.perf_counter(), connection.due, None
        if due is not None:
            self._note(status, due, now)
        if status:
            self._idle.append(connection)
        else:
            self._lost(connection)

    def _lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _note(self, status: int, due: float, now: float) -> None:
        if not status:
            self.outcome.broken += 1
            return
        self.outcome.statuses[status] += 1
        good = status == 200  # noqa: PLR2004
        (self.outcome.good if good else self.outcome.refused).append(1e3 * (now - due))
        self.outcome.good_in_time += good and now <= self._end

    async def _drain(self, seconds: float) -> None:
        end = time.perf_counter() + seconds
        # It ends by the clock as often as by the last answer.
        while len(self._idle) < len(self._open) and time.perf_counter() < end:  # noqa: ASYNC110
            await asyncio.sleep(TICK)


def main() -> None:
    """Carry out the order on standard input."""
    order = Order(**json.loads(sys.stdin.read()))
    # A collection would look like a pause of the server.
    gc.disable()
    print(json.dumps(vars(asyncio.run(Load(order).run()))))


if __name__ == "__main__":
    main()
