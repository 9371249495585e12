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

GUIDE = Path(__file__).parents[3] / "docs" / "client.md"
PATH = "/v2/models/risk/infer"


def body(number: int) -> dict[str, object]:
    return row("X", "FP32", [float(number)] * 30, [1, 30])


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path}/answers.db"


@pytest.fixture
def server(serve: Serve, store: str) -> Server:
    return serve(EXAMPLE / "model.onnx", "--name", "risk", "--idempotency-store", store).ready()


def executions(server: Server) -> int:
    text = httpx.get(f"{server.url()}/metrics").text
    [found] = re.findall(r"^onceserve_executions_total (\S+)$", text, re.MULTILINE)
    return int(float(found))


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


def test_the_example_of_the_guide_runs(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    [example] = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    exec(example.replace("http://localhost:8080", server.url()), {})
    assert capsys.readouterr().out.splitlines() == ["[1]", "False", "1"]
