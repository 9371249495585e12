"""So many calls end in each way over each protocol, and so many are counted."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import numpy as np
import pytest

from contract.serving.conftest import Serve
from contract.serving.grpc_calls import outcome, request, stub
from contract.serving.process import Server, client, row, until
from contract.serving.test_metrics import samples
from onceserve_serving.auth import keys
from onceserve_serving.tensors import DTYPES
from unit.serving import models

KEY = keys.new_key()
LIMIT = 1000
"""Bytes that a body may have, and that all that queue may have."""

PATIENCE = 0.1
"""Seconds for which the server lets a call wait that names no deadline."""

LONG = 200_000
"""Makes a run of the slow model take a second or two."""

STATUS = {
    "200": "OK",
    "400": "INVALID_ARGUMENT",
    "401": "UNAUTHENTICATED",
    "404": "NOT_FOUND",
    "413": "RESOURCE_EXHAUSTED",
    "429": "RESOURCE_EXHAUSTED",
    "500": "INTERNAL",
    "503": "UNAVAILABLE",
    "504": "DEADLINE_EXCEEDED",
}
"""What a client sees over gRPC of what is counted under each code."""

Call: TypeAlias = Coroutine[Any, Any, str]
Ask: TypeAlias = Callable[..., Call]
Expect: TypeAlias = Callable[[str, int, Callable[[], Call]], Awaitable[None]]


@pytest.fixture
def server(serve: Serve, tmp_path: Path) -> Server:
    (tmp_path / "keys").write_text(keys.line_of(KEY, "ann"))
    (tmp_path / "one.onnx").write_bytes(models.reshape_to(1))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "gone.onnx").write_bytes(models.reshape_to(1))
    options: dict[str, Any] = {
        "--name": "slow",
        "--model": f"one={tmp_path / 'one.onnx'}",
        "--repository": tmp_path / "models",
        "--api-keys": tmp_path / "keys",
        "--max-body-bytes": LIMIT,
        "--max-concurrency": 2,
        "--max-batch-size": 1,
        "--max-queue": 2,
        "--max-queue-bytes": LIMIT,
        "--timeout": PATIENCE,
        "--grpc-port": 0,
    }
    server = serve(models.slow(500), *(str(word) for option in options.items() for word in option)).ready()
    unload = f"{server.url()}/v2/repository/models/gone/unload"
    httpx.post(unload, headers={"X-API-Key": KEY}, trust_env=False).raise_for_status()
    return server


@pytest.fixture
def watcher(server: Server) -> Iterator[httpx.Client]:
    yield from client(server)


def over_http(caller: httpx.AsyncClient) -> Ask:
    async def ask(
        *n: int, model: str = "slow", kind: str = "INT64", pad: int = 0, key: str = KEY, patience: float = 0
    ) -> str:
        headers = {"X-API-Key": key, **({"X-Request-Timeout": str(patience)} if patience else {})}
        body = {"id": "x" * pad, **row("n" if model == "slow" else "x", kind, list(n))}
        return str((await caller.post(f"/v2/models/{model}/infer", json=body, headers=headers)).status_code)

    return ask


def over_grpc(calls: Any) -> Ask:
    async def ask(
        *n: int, model: str = "slow", kind: str = "INT64", pad: int = 0, key: str = KEY, patience: float = 0
    ) -> str:
        tensor = np.array(n, DTYPES[kind])
        asked = request(model, "n" if model == "slow" else "x", tensor, id="x" * pad)
        return (await outcome(calls.ModelInfer(asked, metadata=[("x-api-key", key)], timeout=patience or None)))[0]

    return ask


@asynccontextmanager
async def asking(protocol: str, server: Server) -> AsyncIterator[Ask]:
    if protocol == "http":
        async with httpx.AsyncClient(base_url=server.url(), trust_env=False, timeout=30) as caller:
            yield over_http(caller)
    else:
        async with stub(server.grpc_target()) as calls:
            yield over_grpc(calls)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
async def test_each_is_counted_once(server: Server, watcher: httpx.Client, protocol: str) -> None:
    expected: Counter[str] = Counter()

    async def expect(code: str, times: int, call: Callable[[], Call]) -> None:
        expected[code] += times
        assert {await call() for _ in range(times)} == {code if protocol == "http" else STATUS[code]}

    async with asking(protocol, server) as ask:
        await refusals_of_an_idle_server(ask, expect)
        await refusals_of_a_busy_server(ask, expect, watcher)
    expected += Counter({"200": 3, "499": 1})
    found = samples(watcher)
    assert {key[1:]: value for key, value in found.items() if key[0] == "onceserve_requests_total"} == {
        (code, protocol): times for code, times in expected.items()
    }
    assert {key[1]: value for key, value in found.items() if key[0] == "onceserve_rejected_total"} == {
        "queue": 2,
        "bytes": 3,
        "deadline": expected["504"],
    }
    assert found["onceserve_request_duration_seconds_count",] == expected.total()
    assert found["onceserve_executions_total",] == expected["200"]
    assert found["onceserve_inflight_requests",] == found["onceserve_queued_requests",] == 0


async def refusals_of_an_idle_server(ask: Ask, expect: Expect) -> None:
    await expect("200", 1, lambda: ask(1, model="one", kind="FP32"))
    await expect("400", 2, lambda: ask(0, kind="INT32"))
    await expect("401", 3, lambda: ask(0, key=keys.new_key()))
    await expect("404", 4, lambda: ask(0, model="none"))
    await expect("413", 5, lambda: ask(0, pad=LIMIT))
    await expect("500", 6, lambda: ask(1, 2, model="one", kind="FP32"))
    await expect("503", 7, lambda: ask(0, model="gone"))


async def refusals_of_a_busy_server(ask: Ask, expect: Expect, watcher: httpx.Client) -> None:
    """Has one call run, one wait for the model and two queue, of which one is large and one leaves."""
    calls = [asyncio.create_task(ask(LONG))]
    await until_inflight(watcher, 1)
    await expect("504", 2, lambda: ask(0))
    calls.append(asyncio.create_task(ask(0, patience=60)))
    await until_inflight(watcher, 2)
    await expect("504", 1, lambda: ask(0))
    calls.append(asyncio.create_task(ask(0, pad=LIMIT // 2, patience=60)))
    await until_inflight(watcher, 3)
    await expect("429", 3, lambda: ask(0, pad=LIMIT // 2))
    leaver = asyncio.create_task(ask(0, patience=60))
    await until_inflight(watcher, 4)
    await expect("429", 2, lambda: ask(0))
    leaver.cancel()
    assert await asyncio.gather(*calls) in (["200"] * 3, ["OK"] * 3)
    await until_inflight(watcher, 0)


async def until_inflight(watcher: httpx.Client, number: int) -> None:
    await asyncio.to_thread(until, lambda: inflight(watcher) == number, f"{number} calls in flight")


def inflight(watcher: httpx.Client) -> float:
    return samples(watcher)["onceserve_inflight_requests",]
