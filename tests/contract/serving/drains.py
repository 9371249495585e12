"""Many servers that are killed under load, some at a time: `make soak-drain`."""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import IO

from contract.serving.process import Server
from contract.serving.zygote import Fork, Zygote

ROUNDS = int(os.environ.get("DRAIN_ROUNDS", "40"))
"""Servers that each kind of test kills."""


@dataclass
class Drain:
    """How one server ended: the calls answered, the seconds from SIGTERM to its end, what must not be."""

    answered: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)


async def repeat(side_by_side: int, once: Callable[[int], Awaitable[Drain]]) -> None:
    """Drain ROUNDS servers, told their number; fail with all that must not be."""
    numbers = iter(range(ROUNDS))

    async def some() -> list[Drain]:
        return [await once(number) for number in numbers]

    drains = [drain for found in await asyncio.gather(*(some() for _ in range(side_by_side))) for drain in found]
    failures = [failure for drain in drains for failure in drain.failures]
    median, late = (quantiles([drain.seconds for drain in drains], n=100)[at] for at in (49, 98))
    calls = sum(drain.answered for drain in drains)
    print(f"\n{len(drains)} drains, {calls} calls, {len(failures)} failures, p50 {median:.2f} s, p99 {late:.2f} s")
    assert failures == []


class ForkedServer(Server):
    """A server that a zygote starts."""

    def __init__(self, zygote: Zygote, home: Path, *arguments: str) -> None:
        self._zygote = zygote
        super().__init__(home, *arguments)

    def _start(self, arguments: list[str], *, log: IO[bytes], cwd: Path, env: dict[str, str]) -> Fork:
        return self._zygote.start(arguments, log=log, cwd=cwd, env=env)


@asynccontextmanager
async def forked(zygote: Zygote, model: bytes, *options: str) -> AsyncIterator[Server]:
    """Yield a server that is ready."""
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "m.onnx").write_bytes(model)
        server = ForkedServer(zygote, Path(home), f"{home}/m.onnx", *options)
        try:
            yield await asyncio.to_thread(server.ready)
        finally:
            server.stop()


async def end(server: Server) -> Drain:
    """Have a server drain, and return how it ended."""
    signalled = time.monotonic()
    server.signal()
    code = await asyncio.to_thread(server.wait, 30)
    drain = Drain(seconds=time.monotonic() - signalled)
    if code or server.records()[-1].get("inflight") != 0:
        drain.failures.append(f"exit code {code}: {server.log()}")
    return drain
