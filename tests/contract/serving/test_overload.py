"""A server that is asked for more than it can do goes on doing what it can, and refuses the rest at once."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from statistics import median

import httpx
import orjson
import pytest

from contract.serving.conftest import Serve
from contract.serving.process import Server, until
from contract.serving.test_metrics import samples
from unit.serving import models

PATH = "/v2/models/m/infer"
CONCURRENCY, QUEUE = 4, 8
RUN = models.slow(1_000)
"""Takes some 10 ms and is never batched."""

WINDOW = 1.0
"""Seconds of each measurement."""

ROUNDS = 3
"""Measurements of which the median counts: the machine has other work, too."""

CALLERS = 16 * CONCURRENCY
"""Connections of the overload: so many that none is still waiting when its next request is due."""


COLLAPSE = 0.5
"""Share of the peak below which goodput has collapsed; how much of it stays is for `make bench` to tell."""


def body(padding: int = 0, more: int = 0) -> bytes:
    """A request with a long id and a run of some 10 µs more for each of `more`."""
    tensor = {"name": "n", "datatype": "INT64", "shape": [1], "data": [more]}
    return orjson.dumps({"id": "x" * padding, "inputs": [tensor], "outputs": [{"name": "y"}]})


@dataclass
class Seen:
    """How many requests were answered in which way, in how many seconds, and what the refusals said and took."""

    answers: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0
    refused_in: list[float] = field(default_factory=list)
    retry_after: set[int] = field(default_factory=set)

    @property
    def goodput(self) -> float:
        """Answers a second."""
        return self.answers[200] / self.seconds


async def load(server: Server, callers: int, pause: float) -> Seen:
    """Have callers ask for a while; each again after a pause, or when it has its answer if that is later."""
    seen = Seen()
    started = time.monotonic()
    await asyncio.gather(
        *(_call(server, seen, started + pause * number / callers, started + WINDOW, pause) for number in range(callers))
    )
    seen.seconds = time.monotonic() - started
    return seen


async def _call(server: Server, seen: Seen, due: float, end: float, pause: float) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port())
    content = body()
    message = f"POST {PATH} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content
    while due < end:
        await asyncio.sleep(max(due - time.monotonic(), 0))
        asked = time.monotonic()
        writer.write(message)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(_header(head, "content-length")))
        seen.answers[int(head.split()[1])] += 1
        if head.startswith("http/1.1 429 "):
            seen.refused_in.append(time.monotonic() - asked)
            seen.retry_after.add(int(_header(head, "retry-after")))
        due = max(due + pause, time.monotonic())
    writer.close()


def _header(head: str, name: str) -> str:
    return head.partition(f"{name}: ")[2].split("\r\n")[0]


@pytest.fixture
def server(serve: Serve) -> Server:
    options = ("--max-concurrency", str(CONCURRENCY), "--max-queue", str(QUEUE), "--max-queue-bytes", "1000000")
    return serve(RUN, *options, "--threads", "1").ready()


def client(server: Server) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.AsyncClient(base_url=server.url(), timeout=30, trust_env=False, limits=limits)


async def seen_in(watcher: httpx.Client, look: Callable[[dict[tuple[str, ...], float]], bool], what: str) -> None:
    """Wait until the metrics show something, while the test's own requests go on."""
    await asyncio.to_thread(until, lambda: look(samples(watcher)), what)


def resident(server: Server) -> int:
    with open(f"/proc/{server.process.pid}/status", encoding="ascii") as status:  # noqa: PTH123
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


async def test_goodput_holds_under_three_times_the_load_and_the_rest_is_refused_at_once(server: Server) -> None:
    peaks: list[Seen] = []
    floods: list[Seen] = []
    for _ in range(ROUNDS):
        peaks.append(await load(server, CONCURRENCY, 0.0))
        floods.append(await load(server, CALLERS, CALLERS / (3 * peaks[-1].goodput)))
    assert sum((peak.answers for peak in peaks), Counter()).keys() == {200}
    answers = sum((flood.answers for flood in floods), Counter())
    assert answers.keys() == {200, 429}
    assert median(flood.goodput / peak.goodput for flood, peak in zip(floods, peaks, strict=True)) >= COLLAPSE
    assert median(chain.from_iterable(flood.refused_in for flood in floods)) < 0.1
    assert all(1 <= seconds <= 60 for flood in floods for seconds in flood.retry_after)
    with httpx.Client(base_url=server.url(), trust_env=False) as after:
        found = samples(after)
    executions = sum(one.answers[200] for one in [*peaks, *floods])
    assert found["onceserve_rejected_total", "queue"] == answers[429]
    assert found["onceserve_requests_total", "429", "http"] == answers[429]
    assert found["onceserve_executions_total",] == executions
    assert found["onceserve_queue_duration_seconds_count",] == executions
    assert found["onceserve_queued_requests",] == found["onceserve_inflight_requests",] == 0
    # Who is let in waits for no more than those before it, which is well below a second.
    within = found["onceserve_queue_duration_seconds_bucket", "1.0"]
    assert within >= 0.99 * executions


async def test_what_waits_has_a_limit_in_bytes_and_memory_stays(server: Server) -> None:
    large = body(400_000)
    before = resident(server)
    codes: Counter[int] = Counter()
    async with client(server) as caller:
        for _ in range(3):
            answers = await asyncio.gather(*(caller.post(PATH, content=large) for _ in range(40)))
            codes.update(answer.status_code for answer in answers)
    assert codes.keys() == {200, 429}
    assert resident(server) - before < 100_000
    with httpx.Client(base_url=server.url(), trust_env=False) as after:
        assert samples(after)["onceserve_rejected_total", "bytes"] == codes[429]


async def test_what_cannot_begin_in_time_is_not_run(server: Server) -> None:
    async with client(server) as caller:
        slow = [asyncio.create_task(caller.post(PATH, content=body(more=20_000))) for _ in range(CONCURRENCY + 2)]
        with httpx.Client(base_url=server.url(), trust_env=False) as watcher:
            await seen_in(watcher, lambda found: found["onceserve_queued_requests",] == 2, "a queue")
        late = await caller.post(PATH, content=body(), headers={"X-Request-Timeout": "1ms"})
        answers = await asyncio.gather(*slow)
    assert {answer.status_code for answer in answers} == {200}
    assert late.status_code == 504
    assert "deadline" in late.json()["error"]
    with httpx.Client(base_url=server.url(), trust_env=False) as after:
        found = samples(after)
    assert found["onceserve_executions_total",] == len(slow)
    assert found["onceserve_rejected_total", "deadline"] == 1


async def test_who_leaves_the_queue_is_not_run(server: Server) -> None:
    async with client(server) as caller:
        slow = [asyncio.create_task(caller.post(PATH, content=body(more=20_000))) for _ in range(CONCURRENCY + QUEUE)]
        with httpx.Client(base_url=server.url(), trust_env=False) as watcher:
            await seen_in(watcher, lambda found: found["onceserve_queued_requests",] == QUEUE, "a queue")
            for one in slow:
                one.cancel()
            await asyncio.gather(*slow, return_exceptions=True)
            await seen_in(watcher, lambda found: found["onceserve_inflight_requests",] == 0, "nobody waits")
            assert samples(watcher)["onceserve_executions_total",] <= 1
        assert (await caller.post(PATH, content=body())).status_code == 200
