"""Clients that leave while they wait."""

import socket
from collections.abc import Callable
from threading import Thread

import httpx
import orjson
from prometheus_client.parser import text_string_to_metric_families

from contract.serving.conftest import Serve
from contract.serving.process import Server, row, until
from unit.serving import models

PATH = "/v2/models/m/infer"
LONG = 200_000
"""Steps of a run that outlasts all that the test does meanwhile."""


def metric(server: Server, name: str, **labels: str) -> float:
    text = httpx.get(f"{server.url()}/metrics", trust_env=False).text
    samples = (one for family in text_string_to_metric_families(text) for one in family.samples)
    return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())


def leave_after(server: Server, content: bytes, waits: Callable[[], bool]) -> None:
    """Ask, and leave once the request waits."""
    url = httpx.URL(server.url())
    with socket.create_connection((url.host, url.port or 0)) as leaver:
        leaver.sendall(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content)
        until(waits, "the request waits")


def test_who_leaves_the_queue_is_never_run(serve: Serve) -> None:
    server = serve(models.slow(2_000), "--max-concurrency", "1").ready()

    def first() -> None:
        answers.append(httpx.post(server.url() + PATH, json=row("n", "INT64", [LONG]), timeout=60, trust_env=False))

    answers: list[httpx.Response] = []
    running = Thread(target=first)
    running.start()
    until(lambda: metric(server, "onceserve_inflight_requests") == 1, "the first runs")
    second = orjson.dumps(row("n", "INT64", [1]))
    leave_after(server, second, lambda: metric(server, "onceserve_inflight_requests") == 2)
    until(lambda: metric(server, "onceserve_requests_total", code="499") == 1, "the departure is seen")
    assert not answers
    running.join()
    assert answers[0].status_code == 200
    assert metric(server, "onceserve_executions_total") == 1
    assert metric(server, "onceserve_inflight_requests") == 0
