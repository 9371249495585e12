"""Calls by onceserve_client at a steady rate, each under a key of its own: a process that runs in a node's network.

    python calls.py URL BODY_FILE RATE

Each call is due at its time, whatever became of those before. On SIGTERM no new ones begin; when all have ended each is
made once more under its key, and one JSON list is printed: of each call what `Call` has.
"""

import asyncio
import contextlib
import json
import signal
import sys
import time
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx

from onceserve_client import AsyncTransport, replayed

TRIES = "tries"
SIDE_BY_SIDE = 20
"""Calls that are made once more at a time."""


@dataclass
class Try:
    """One request that was sent: when, and the status or error that came of it."""

    at: float
    outcome: str


@dataclass
class Call:
    """One call: all tries, the answer in the end (or the error), and what its key gave when it was asked again."""

    key: str
    tries: list[Try] = field(default_factory=list)
    answer: str = ""
    again: str = ""
    replayed: bool = False


class Noting(httpx.AsyncBaseTransport):
    """The way to the server; notes what comes of each try with the call that it belongs to.

    Each try makes a connection of its own, which may lead to any pod: one that is kept goes on with a pod that lives.
    """

    def __init__(self) -> None:
        self._way = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one try."""
        noted = Try(time.time(), "")
        request.extensions[TRIES].append(noted)
        try:
            response = await self._way.handle_async_request(request)
            stream: httpx.AsyncByteStream = response.stream  # type: ignore[assignment]
            async with contextlib.aclosing(stream):
                response.stream = httpx.ByteStream(b"".join([piece async for piece in stream]))
        except httpx.TransportError as error:
            noted.outcome = type(error).__name__
            raise
        noted.outcome = str(response.status_code)
        return response

    async def aclose(self) -> None:
        """Close the connections."""
        await self._way.aclose()


class Caller:
    """Makes the calls, with the client as anybody has it who changes nothing of it."""

    def __init__(self, client: httpx.AsyncClient, url: str, body: bytes) -> None:
        self._client = client
        self._url = url
        self._body = body
        self.calls: list[Call] = []

    async def keep_calling(self, rate: float, stop: asyncio.Event) -> None:
        """Begin so many calls a second until told to stop; return when all have ended."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as running:
            while not stop.is_set():
                self.calls.append(Call(str(uuid.uuid4())))
                running.create_task(self._first(self.calls[-1]))
                due = began + len(self.calls) / rate
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), max(due - time.monotonic(), 0))

    async def ask_again(self) -> None:
        """Make each call once more."""
        turns = asyncio.Semaphore(SIDE_BY_SIDE)
        async with asyncio.TaskGroup() as running:
            for call in self.calls:
                running.create_task(self._again(call, turns))

    async def _first(self, call: Call) -> None:
        call.answer, _ = await self._ask(call.key, call.tries)

    async def _again(self, call: Call, turns: asyncio.Semaphore) -> None:
        async with turns:
            call.again, call.replayed = await self._ask(call.key, [])

    async def _ask(self, key: str, tries: list[Try]) -> tuple[str, bool]:
        headers = {"Content-Type": "application/json", "Idempotency-Key": f'"{key}"'}
        try:
            response = await self._client.post(
                self._url, content=self._body, headers=headers, extensions={TRIES: tries}
            )
        except httpx.TransportError as error:
            return f"{type(error).__name__}: {error}", False
        return f"{response.status_code} {response.text}", replayed(response)


async def main(url: str, body: bytes, rate: float) -> None:
    """Call until SIGTERM, then ask again, and print what was seen."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with httpx.AsyncClient(transport=AsyncTransport(Noting())) as client:
        caller = Caller(client, url, body)
        await caller.keep_calling(rate, stop)
        await caller.ask_again()
    print(json.dumps([asdict(call) for call in caller.calls]))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]).read_bytes(), float(sys.argv[3])))
