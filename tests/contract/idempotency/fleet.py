"""Server processes that share a store."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import httpx

from contract.idempotency import dice
from contract.serving.drains import ForkedServer
from contract.serving.process import Server
from contract.serving.test_departures import metric
from contract.serving.zygote import Zygote
from unit.serving import models

LOOKUP = "lookup"
"""A model that fails on a negative index beyond its table."""

ECHO = "echo"
"""A model that gives back what it takes."""


class Fleet:
    """Servers of the same models but for the dice, which each throws itself; for the duration of a block."""

    def __init__(self, zygote: Zygote, home: Path, store: str) -> None:
        self.servers: list[Server] = []
        self.store = store
        self._zygote = zygote
        self._home = home
        (home / "lookup.onnx").write_bytes(models.lookup())
        (home / "echo.onnx").write_bytes(models.identity())

    def start(self, *options: str) -> Server:
        """Start a server; it is not ready yet. Its model version tells which of the servers it is."""
        number = len(self.servers) + 1
        home = self._home / str(number)
        home.mkdir()
        (home / "dice.onnx").write_bytes(dice.dice())
        further = [word for name in (LOOKUP, ECHO) for word in ("--model", f"{name}={self._home / name}.onnx")]
        given = ["--name", dice.NAME, "--model-version", f"r{number}", *further]
        stored = ["--idempotency-store", self.store] if self.store else []
        server = ForkedServer(self._zygote, home, str(home / "dice.onnx"), *given, *stored, *options)
        self.servers.append(server)
        return server

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.stop()


@contextmanager
def callers(*servers: Server) -> Iterator[list[httpx.Client]]:
    """Yield a client of each server, once it is ready."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(httpx.Client(base_url=server.ready().url(), timeout=30, trust_env=False))
            for server in servers
        ]


def outcomes(server: Server, outcome: str) -> float:
    """Return how many requests with a key the server has counted under an outcome."""
    return metric(server, "onceserve_idempotency_total", outcome=outcome)


def executions(server: Server) -> float:
    """Return how many requests went through the server's models."""
    return metric(server, "onceserve_executions_total")


def begun(server: Server) -> float:
    """Return how many runs of the server's models have begun."""
    return metric(server, "onceserve_queue_duration_seconds_count")


def inflight(server: Server) -> float:
    """Return how many requests the server is answering."""
    return metric(server, "onceserve_inflight_requests")


def runs(server: Server) -> bool:
    """Tell whether the server is answering a request."""
    return inflight(server) == 1


def rejected(server: Server, reason: str = "queue") -> float:
    """Return how many requests found no room: in the queue, or to wait for the store."""
    return metric(server, "onceserve_rejected_total", reason=reason)


def aside(server: Server) -> float:
    """Return how many requests wait for the store and have given their place to others."""
    return metric(server, "onceserve_aside_requests")


def refused(answer: httpx.Response, kind: str = "store-failed") -> bool:
    """Tell whether an answer says that the store failed, or is too busy, and when to come again."""
    if answer.status_code != 503:
        return False
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"urn:onceserve:problem:{kind}"
    return int(answer.headers["retry-after"]) >= 1
