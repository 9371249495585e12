import hashlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from contract.serving.conftest import Serve
from contract.serving.process import Server, client, row, until
from unit.serving import models

MODEL = models.unary("Log", shape=["N"])
PATH = "/v2/models/m/infer"
GOOD = row("x", "FP32", [1, 2])


@pytest.fixture
def server(serve: Serve) -> Server:
    return serve(MODEL, "--max-body-bytes", "1000").ready()


@pytest.fixture
def asked(server: Server) -> Iterator[httpx.Client]:
    yield from client(server)


def samples(client: httpx.Client) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels, in the order of their names."""
    families: Any = text_string_to_metric_families(client.get("/metrics").text)
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


def test_every_outcome_is_counted_once(asked: httpx.Client) -> None:
    outcomes: dict[int, Callable[[], httpx.Response]] = {
        200: lambda: asked.post(PATH, json=GOOD),
        400: lambda: asked.post(PATH, json=row("x", "INT64", [1])),
        404: lambda: asked.post("/v2/models/no/infer", json=GOOD),
        405: lambda: asked.get(PATH),
        413: lambda: asked.post(PATH, json=row("x", "FP32", [1.25] * 1000)),
        415: lambda: asked.post(PATH, content=b"{}", headers={"Content-Type": "text/plain"}),
        500: lambda: asked.post(PATH, json=row("x", "FP32", [-1])),
    }
    for times, (code, outcome) in enumerate(outcomes.items(), start=1):
        assert [outcome().status_code for _ in range(times)] == [code] * times
    found = samples(asked)
    counted = {int(key[1]): value for key, value in found.items() if key[0] == "onceserve_requests_total"}
    assert counted == {code: times for times, code in enumerate(outcomes, start=1)}
    assert found["onceserve_request_duration_seconds_count",] == sum(counted.values())
    assert found["onceserve_executions_total",] == found["onceserve_compute_duration_seconds_count",] == 1 + 7
    assert found["onceserve_inflight_requests",] == 0


def test_management_requests_and_probes_are_not_inference(asked: httpx.Client) -> None:
    for path in ("/", "/v2", "/v2/health/ready", "/v2/models/m/ready", "/nope"):
        asked.get(path)
    found = samples(asked)
    assert not any(key[0] == "onceserve_requests_total" for key in found)
    assert found["onceserve_executions_total",] == 0


def test_the_model_and_its_load_are_told(asked: httpx.Client) -> None:
    found = samples(asked)
    assert found["onceserve_model_info", "m", hashlib.sha256(MODEL).hexdigest(), "1"] == 1
    assert 0 < found["onceserve_model_load_seconds",] < 10
    assert found["onceserve_draining",] == 0
    assert found["process_resident_memory_bytes",] > 0


def test_a_client_that_leaves_is_counted(server: Server, asked: httpx.Client) -> None:
    url = httpx.URL(server.url())
    with socket.create_connection((url.host, url.port or 0)) as leaver:
        leaver.sendall(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{{".encode())
        until(lambda: samples(asked)["onceserve_inflight_requests",] == 1, "the request begins")
    until(lambda: samples(asked).get(("onceserve_requests_total", "499", "http")) == 1, "the request is counted")
    assert samples(asked)["onceserve_inflight_requests",] == 0


def test_openmetrics_is_given_to_who_asks(asked: httpx.Client) -> None:
    response = asked.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")
