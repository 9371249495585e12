"""What the operator asks of a real Prometheus, which scrapes real servers."""

import asyncio
import math
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from contract.serving.conftest import _factory
from contract.serving.process import Server, row
from onceserve_operator.api.rollout import Prometheus as Asked
from onceserve_operator.api.rollout import PrometheusQuery, Verification
from onceserve_operator.domain import Pod, Seen
from onceserve_operator.inspection.calls import Calls, NoAnswerError
from onceserve_operator.inspection.wanted import Shift, Wanted
from support.certificates import Authority
from support.prometheus import Prometheus
from support.waiting import eventually
from unit.operator.inspection.inspected import KEY, Inspected
from unit.serving import models

REVISION, STABLE = "risk-2", "risk-1"
NUMBERS = {200: [1, 2], 500: [-1, 2]}
"""What the model is asked for a status: of a negative number it knows no logarithm."""
FAILED = 'sum(onceserve_requests_total{revision="$revision",code=~"5.."})'
ERRORS = f'{FAILED} / sum(onceserve_requests_total{{revision="$revision"}})'


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """A server of each revision."""
    for start in _factory(tmp_path_factory):
        model = models.unary("Log", shape=["N"])
        started = {
            revision: start(model, "--name", "m", "--model-version", revision) for revision in (REVISION, STABLE)
        }
        yield {revision: server.ready() for revision, server in started.items()}


@pytest.fixture(scope="module")
def prometheus(servers: dict[str, Server]) -> Iterator[Prometheus]:
    with Prometheus() as started:
        started.scrape({f"127.0.0.1:{server.port()}": {"revision": name} for name, server in servers.items()})
        yield started


@pytest.fixture
async def inspected() -> AsyncIterator[Inspected]:
    one = Inspected(Calls(query_timeout=1), sampling=0.1, querying=0.1)
    yield one
    await one.inspector.stop()


def shifting(prometheus: Prometheus, **queries: str) -> Wanted:
    """Have these be asked while traffic shifts; a half is the most that each may be."""
    asked = [PrometheusQuery(name=name, query=query, max="0.5") for name, query in queries.items()]
    pods = [Pod(f"{revision}-a", revision, ready=True, leaving=False) for revision in (REVISION, STABLE)]
    verification = Verification(prometheus=Asked(url=prometheus.url, queries=asked))
    shift = Shift((pods[0],), (pods[1],), STABLE, "http")
    return Wanted(REVISION, "http", None, verification, (), shift)


async def measured(inspected: Inspected, words: str) -> Seen:
    """Wait until these words are the whole of what was measured."""
    return await inspected.until(lambda seen: seen.measured and seen.measured.message == words, seconds=20)


def call(server: Server, *statuses: int) -> None:
    """Make calls that are answered so."""
    with httpx.Client(base_url=server.url(), timeout=20, trust_env=False) as client:
        for status in statuses:
            body = row("x", "FP32", NUMBERS[status])
            assert client.post("/v2/models/m/infer", json=body).status_code == status


async def test_what_users_were_answered_is_judged(
    servers: dict[str, Server], prometheus: Prometheus, inspected: Inspected
) -> None:
    inspected.want(KEY, shifting(prometheus, errors=ERRORS))
    # There is no series of errors before there is an error.
    found = await measured(inspected, "errors is not judged: Prometheus: no result")
    assert found.measured is not None
    assert found.measured.problem is None
    call(servers[STABLE], 500, 500, 500)
    call(servers[REVISION], 200, 500, 200, 200)
    found = await measured(inspected, "errors is 0.25, at most 0.5")
    assert found.measured is not None
    assert found.measured.problem is None
    call(servers[REVISION], *[500] * 4)
    found = await measured(inspected, "errors is 0.625, at most 0.5 is allowed")
    assert found.measured is not None
    assert found.measured.problem is not None
    assert found.measured.problem.reason == "QueryTooHigh"


@pytest.fixture(scope="module")
def scraping(prometheus: Prometheus, servers: dict[str, Server]) -> Prometheus:
    """One that has looked at both servers."""

    def up() -> bool:
        return asyncio.run(Calls().query(prometheus.url, "sum(up) or vector(0)")) == len(servers)

    eventually(up, "both are scraped")
    return prometheus


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f'count(up{{revision="{REVISION}"}})', 1),
        ("scalar(vector(0.25))", 0.25),
        ("1/0", math.inf),
        ("0/0", math.nan),
        (f"vector(1) or {'x' * 4000}", 1),
        ('label_replace(vector(7), "a", "$1 & ü + %", "b", "(.*)")', 7),
    ],
)
async def test_one_number_is_taken_as_it_is(scraping: Prometheus, query: str, expected: float) -> None:
    assert await Calls().query(scraping.url, query) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("nothing_of_this_name", "no result"),
        ("up", "2 results instead of one"),
        ("up[1m]", "a range vector instead of one number"),
        ("nothing_of_this_name[1m]", "a range vector instead of one number"),
        ('"words"', "a string instead of one number"),
        ("sum(up", 'it answered 400: invalid parameter "query": 1:7: parse error: unclosed left parenthesis'),
        ("up + on (job) up", "it answered 422: execution"),
    ],
)
async def test_what_is_not_one_number_is_told(scraping: Prometheus, query: str, told: str) -> None:
    with pytest.raises(NoAnswerError) as caught:
        await Calls().query(scraping.url, query)
    assert str(caught.value) == told


async def test_queries_that_tell_nothing_do_not_keep_others_from_being_judged(
    scraping: Prometheus, inspected: Inspected
) -> None:
    inspected.want(KEY, shifting(scraping, share="0/0", wrong="sum(", down='1 - sum(up{revision="$stable"})'))
    await measured(
        inspected,
        "share is not judged: not a number; wrong is not judged: Prometheus: it answered 400: invalid parameter "
        '"query": 1:5: parse error: unclosed left parenthesis; down is 0, at most 0.5',
    )


async def test_one_that_is_slow_dies_and_comes_back_is_waited_for_by_nobody(inspected: Inspected) -> None:
    with Prometheus() as prometheus:
        inspected.want(KEY, shifting(prometheus, always="vector(0)"))
        await measured(inspected, "always is 0, at most 0.5")
        prometheus.pause()
        await measured(inspected, "always is not judged: Prometheus: it did not answer within 1 s")
        prometheus.resume()
        await measured(inspected, "always is 0, at most 0.5")
        prometheus.kill()
        found = await inspected.until(lambda seen: seen.measured and "not judged" in seen.measured.message)
        assert found.measured is not None
        assert found.measured.problem is None
        assert found.measured.message.startswith("always is not judged: Prometheus: it cannot be called: ")
        prometheus.start()
        await measured(inspected, "always is 0, at most 0.5")


def test_one_below_a_path_with_a_certificate_is_asked_if_the_certificate_is_trusted(tmp_path: Path) -> None:
    authority = Authority()
    (tmp_path / "ca.crt").write_bytes(authority.cert)
    with Prometheus(prefix="/prom", tls=authority.issue().write(tmp_path)) as prometheus:
        with pytest.raises(NoAnswerError, match="it cannot be called: ClientConnectorCertificateError: "):
            asyncio.run(Calls().query(prometheus.url, "1"))
        # Whom a process trusts is settled when it starts.
        script = "import asyncio, sys; from onceserve_operator.inspection.calls import Calls; "
        script += "print(asyncio.run(Calls().query(sys.argv[1], sys.argv[2])))"
        asked = subprocess.run(
            [sys.executable, "-c", script, prometheus.url, "vector(3)"],
            env={**os.environ, "SSL_CERT_FILE": str(tmp_path / "ca.crt")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (asked.stdout, asked.returncode) == ("3.0\n", 0), asked.stderr
