"""onceserve_client and the real server: what is lost on the way is had again, and runs once."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

import onceserve_client
from contract.serving.conftest import EXAMPLE, Serve
from contract.serving.process import Server, row, until
from support.proxy import Proxy
from unit.serving import models

GUIDE = Path(__file__).parents[3] / "docs" / "client.md"
PATH = "/v2/models/risk/infer"
CLAIMS = 'onceserve_idempotency_store_duration_seconds_count{operation="claim"}'
BASE, WORK = 400, 100_000
"""Work of each run, so much that the server runs none on its event loop, and some seconds of it."""


def body(number: int) -> dict[str, object]:
    return row("X", "FP32", [float(number)] * 30, [1, 30])


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path}/answers.db"


@pytest.fixture
def server(serve: Serve, store: str) -> Server:
    return serve(EXAMPLE / "model.onnx", "--name", "risk", "--idempotency-store", store).ready()


def count(server: Server, metric: str) -> int:
    """Return a metric of a server, 0 if it has none of it."""
    text = httpx.get(f"{server.url()}/metrics").text
    return int(sum(float(found) for found in re.findall(rf"^{re.escape(metric)} (\S+)$", text, re.MULTILINE)))


def executions(server: Server) -> int:
    return count(server, "onceserve_executions_total")


def asked(server: Server, number: int) -> bytes:
    """Return the answer to a request without a key."""
    return httpx.post(f"{server.url()}{PATH}", json=body(number)).content


async def by_threads(url: str, numbers: range) -> list[httpx.Response]:
    with httpx.Client(base_url=url, transport=onceserve_client.Transport(), timeout=20) as client:
        calls = (asyncio.to_thread(client.post, PATH, json=body(number)) for number in numbers)
        return await asyncio.gather(*calls)


async def by_asyncio(url: str, numbers: range) -> list[httpx.Response]:
    async with httpx.AsyncClient(base_url=url, transport=onceserve_client.AsyncTransport(), timeout=20) as client:
        return await asyncio.gather(*(client.post(PATH, json=body(number)) for number in numbers))


@pytest.mark.parametrize("post", [by_threads, by_asyncio])
async def test_answers_that_are_lost_are_had_again_and_nothing_runs_twice(
    server: Server, post: Callable[[str, range], Awaitable[list[httpx.Response]]]
) -> None:
    numbers = range(5)
    async with Proxy(server.port()) as proxy:
        proxy.replies = False
        calls = asyncio.ensure_future(post(f"http://127.0.0.1:{proxy.port}", numbers))
        await asyncio.to_thread(until, lambda: executions(server) == len(numbers), "all have run")
        proxy.heal()
        responses = await calls
    assert [response.status_code for response in responses] == [200] * len(numbers)
    assert all(onceserve_client.replayed(response) for response in responses)
    assert len({response.request.headers["Idempotency-Key"] for response in responses}) == len(numbers)
    assert executions(server) == len(numbers)
    assert [response.content for response in responses] == [asked(server, number) for number in numbers]


async def test_a_call_outlives_its_server(server: Server, serve: Serve, store: str) -> None:
    async with Proxy(server.port()) as proxy:
        proxy.replies = False
        call = asyncio.ensure_future(by_asyncio(f"http://127.0.0.1:{proxy.port}", range(1)))
        await asyncio.to_thread(until, lambda: executions(server) == 1, "it has run")
        server.stop()
        successor = serve(EXAMPLE / "model.onnx", "--name", "risk", "--idempotency-store", store)
        await asyncio.to_thread(successor.ready)
        proxy.upstream = successor.port()
        proxy.heal()
        [response] = await call
    assert (response.status_code, onceserve_client.replayed(response)) == (200, True)
    assert executions(successor) == 0


async def test_a_call_that_is_cut_as_it_runs_is_answered_by_another_server(serve: Serve, store: str) -> None:
    model = models.slow(BASE)
    a, b = (serve(model, "--name", "slow", "--idempotency-store", store).ready() for _ in range(2))
    async with Proxy(a.port()) as proxy, httpx.AsyncClient(transport=onceserve_client.AsyncTransport()) as client:
        url = f"http://127.0.0.1:{proxy.port}/v2/models/slow/infer"
        call = asyncio.ensure_future(client.post(url, json=row("n", "INT64", [WORK]), timeout=30))
        await asyncio.to_thread(until, lambda: count(a, CLAIMS), "a has claimed it")
        proxy.upstream = b.port()
        proxy.cut()
        response = await call
    assert response.json()["outputs"][0]["data"] == [WORK + BASE]
    assert onceserve_client.replayed(response)
    assert (executions(a), executions(b)) == (1, 0)
    assert count(b, 'onceserve_idempotency_total{outcome="in_progress"}') == 0, "it was waited for"


def test_the_example_of_the_guide_runs(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    [example] = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    exec(example.replace("http://localhost:8080", server.url()), {})
    assert capsys.readouterr().out.splitlines() == ["[1]", "False", "1"]
