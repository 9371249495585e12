"""What leaves the operator for the API server when its leadership is in doubt, byte by byte."""

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from onceserve_operator.domain import Key
from onceserve_operator.errors import ApiUnavailableError, OperatorError
from onceserve_operator.kube import kinds
from onceserve_operator.kube.client import Client
from onceserve_operator.kube.connection import connect

KEY = Key("team", "risk")
STORED = {"metadata": {"name": "risk", "namespace": "team", "resourceVersion": "2"}}


class NotLeadingError(OperatorError):
    """What stands for the end of the process here."""


@dataclass
class Endpoint:
    """An API server that notes each byte and answers after a while."""

    delay: float = 0
    status: str = "200 OK"
    received: bytes = b""
    answered: int = 0
    connections: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        body = json.dumps(STORED).encode()
        while chunk := await reader.read(65536):
            self.received += chunk
            self.asked.set()
            await asyncio.sleep(self.delay)
            head = f"HTTP/1.1 {self.status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            self.answered += 1


@pytest.fixture
async def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Endpoint]:
    made = Endpoint()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    config: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{address[1]}"}}],
        "users": [{"name": "me", "user": {"token": "token"}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    # The client library reads the variable when it is imported.
    monkeypatch.setattr("kubernetes.aio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    yield made
    for writer in made.writers:
        writer.close()
    server.close()
    await server.wait_closed()


@asynccontextmanager
async def client(*, tenure: float = 8, leads: bool = True) -> AsyncIterator[Client]:
    def check() -> None:
        if not leads:
            raise NotLeadingError

    async with connect(timeout=15, user_agent="operator (me)", before_write=check) as connection:
        yield Client(connection, tenure=lambda: tenure)


async def test_who_leads_writes_under_its_name(endpoint: Endpoint) -> None:
    async with client() as leading:
        assert await leading.apply_status(KEY, {}) == STORED
    assert endpoint.received.startswith(
        b"PATCH /apis/onceserve.dev/v1alpha1/namespaces/team/modeldeployments/risk/status?"
    )
    assert b"User-Agent: operator (me)\r\n" in endpoint.received


async def test_leadership_that_ends_while_a_write_waits_for_its_connection_stops_it(endpoint: Endpoint) -> None:
    """When the write was begun there was time enough; its first byte is what counts."""
    async with client(leads=False) as late:
        with pytest.raises(NotLeadingError):
            await late.apply_status(KEY, {})
        with pytest.raises(NotLeadingError):
            await late.delete({"apiVersion": "v1", "kind": "Service", "metadata": {**STORED["metadata"], "uid": "1"}})
    assert (endpoint.connections, endpoint.received) == (2, b"")


async def test_reading_needs_no_leadership(endpoint: Endpoint) -> None:
    async with client(leads=False) as standby:
        assert await standby.get(kinds.SERVICE, "team", "risk") == STORED


async def test_a_write_is_given_up_when_leadership_may_end(endpoint: Endpoint) -> None:
    endpoint.delay = 5
    began = time.monotonic()
    async with client(tenure=0.3) as leading:
        with pytest.raises(ApiUnavailableError):
            await leading.apply_status(KEY, {})
    assert time.monotonic() - began < 2


async def give_up_a_write(leading: Client, endpoint: Endpoint) -> None:
    """Cancel a write that the API server has, and has not answered."""
    write = asyncio.create_task(leading.apply_status(KEY, {}))
    await endpoint.asked.wait()
    write.cancel()
    with pytest.raises(asyncio.CancelledError):
        await write


async def test_what_was_written_has_come_about_before_the_lease_is_left(endpoint: Endpoint) -> None:
    endpoint.delay = 0.5
    async with client() as leading:
        await give_up_a_write(leading, endpoint)
        assert endpoint.answered == 0
        await leading.settle()
        assert endpoint.answered == 1


async def test_what_was_given_up_and_then_refused_is_told(endpoint: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    endpoint.delay, endpoint.status = 0.2, "403 Forbidden"
    async with client() as leading:
        await give_up_a_write(leading, endpoint)
        await leading.settle()
    # Else the event loop complains of an error that nobody has looked at.
    gc.collect()
    [told] = [record.message for record in caplog.records]
    assert told.startswith("given up, and not done: patch ModelDeployment team/risk/status: ")
