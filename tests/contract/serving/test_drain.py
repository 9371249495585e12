"""SIGTERM under load: no call is lost until the listener closes."""

import asyncio
import signal
import time
from dataclasses import dataclass, field

import httpx
import orjson
import pytest

from contract.serving import drains
from contract.serving.conftest import EXAMPLE, Serve
from contract.serving.drains import Drain, end, forked
from contract.serving.process import Server, row, until
from contract.serving.zygote import Zygote
from unit.serving import models

QUICK = ("risk", row("X", "FP32", [1] * 30, [1, 30]), (EXAMPLE / "model.onnx").read_bytes())
SLOW = ("slow", row("n", "INT64", [0]), models.slow(500))
DELAY = 0.15
CALLS = 40
"""Calls answered before the signal."""


@dataclass
class Load:
    """What clients saw. A refused connection ends a client; it is a failure only before the listener may close."""

    port: int
    request: bytes
    answered: int = 0
    after_signal: int = 0
    told_to_close: int = 0
    failures: list[str] = field(default_factory=list)
    refused_at: list[float] = field(default_factory=list)
    signalled_at: float = float("inf")

    async def keep_alive(self) -> None:
        """Call over and over on one connection for as long as the server lets it."""
        while await self._connect(calls=1_000_000):
            pass

    async def reconnect(self) -> None:
        """Call over and over on a new connection each."""
        while await self._connect(calls=1):
            pass

    async def _connect(self, calls: int) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except ConnectionRefusedError:
            self.refused_at.append(time.monotonic())
            return False
        try:
            while calls and await self._call(reader, writer):
                calls -= 1
        except (OSError, EOFError) as error:
            self.failures.append(f"{error!r} {time.monotonic() - self.signalled_at:.3f} s after the signal")
        finally:
            writer.close()
        return not self.failures

    async def _call(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Call once; tell whether the connection may be used again."""
        writer.write(self.request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
        if not head.startswith(b"http/1.1 200 "):
            self.failures.append(head.decode())
        self.answered += 1
        self.after_signal += time.monotonic() > self.signalled_at
        closing = b"connection: close" in head
        self.told_to_close += closing
        return not closing


def request(model: str, body: object) -> bytes:
    content = orjson.dumps(body)
    head = f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: test\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


@pytest.mark.timeout(60 + 2 * drains.ROUNDS)
async def test_no_call_is_lost(zygote: Zygote) -> None:
    async def once(number: int) -> Drain:
        name, body, model = SLOW if number % 2 else QUICK
        delay = DELAY if number % 4 < 2 else 0.0
        async with forked(zygote, model, "--name", name, "--drain-delay", str(delay)) as server:
            return await under_load(server, request(name, body), delay)

    await drains.repeat(3, once)


async def under_load(server: Server, content: bytes, delay: float) -> Drain:
    load = Load(server.port(), content)
    clients = [load.keep_alive() for _ in range(4)] + [load.reconnect() for _ in range(4)]
    tasks = [asyncio.create_task(client) for client in clients]
    while load.answered < CALLS and not load.failures:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    load.signalled_at = time.monotonic()
    drain = await end(server)
    await asyncio.gather(*tasks)
    drain.answered = load.answered
    drain.failures += load.failures
    if not load.failures and min(load.refused_at) < load.signalled_at + delay:
        drain.failures.append("a connection was refused before the delay was over")
    if delay and not (load.after_signal and load.told_to_close):
        drain.failures.append("no call was answered within the delay, and told to close")
    return drain


async def test_a_draining_server_answers_and_is_not_ready(serve: Serve) -> None:
    server = serve(QUICK[2], "--name", "risk", "--drain-delay", "60").ready()
    async with httpx.AsyncClient(base_url=server.url(), trust_env=False) as client:
        server.signal()
        until(lambda: "SIGTERM: draining" in server.log(), "the signal is taken")
        ready = await client.get("/v2/health/ready")
        assert ready.status_code == 503
        assert "draining" in ready.json()["error"]
        assert (await client.get("/v2/health/live")).status_code == 200
        assert "onceserve_draining 1.0" in (await client.get("/metrics")).text
        answer = await client.post("/v2/models/risk/infer", json=QUICK[1])
        assert answer.status_code == 200
        assert answer.headers["connection"] == "close"
    server.signal()
    assert server.wait(5) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_what_is_in_flight_is_answered(serve: Serve, number: signal.Signals) -> None:
    server = serve(SLOW[2], "--name", "slow").ready()
    long = row("n", "INT64", [200_000])
    async with httpx.AsyncClient(base_url=server.url(), trust_env=False, timeout=20) as client:
        asked = asyncio.create_task(client.post("/v2/models/slow/infer", json=long))
        async with httpx.AsyncClient(base_url=server.url(), trust_env=False) as watcher:
            while "onceserve_inflight_requests 1.0" not in (await watcher.get("/metrics")).text:
                assert not asked.done()
        server.signal(number)
        answer = await asked
    assert answer.status_code == 200
    assert answer.json()["outputs"][0]["data"] == [200_500]
    assert server.wait() == 0


async def test_the_drain_timeout_cuts_what_does_not_end(serve: Serve) -> None:
    server = serve(SLOW[2], "--name", "slow", "--drain-timeout", "1").ready()
    forever = row("n", "INT64", [10**12])
    async with httpx.AsyncClient(base_url=server.url(), trust_env=False, timeout=20) as client:
        asked = asyncio.create_task(client.post("/v2/models/slow/infer", json=forever))
        async with httpx.AsyncClient(base_url=server.url(), trust_env=False) as watcher:
            while "onceserve_inflight_requests 1.0" not in (await watcher.get("/metrics")).text:
                assert not asked.done()
        server.signal()
        with pytest.raises(httpx.HTTPError):
            (await asked).raise_for_status()
    assert server.wait(5) == 0
