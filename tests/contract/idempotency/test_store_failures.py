"""A store that dies, hangs or is not there: requests with a key are refused at once, all others are answered."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import httpx
import pytest

from contract.idempotency.dice import ATTEMPT, PATH, ask, body, is_replay, new_key
from contract.idempotency.fleet import Fleet, begun, callers, outcomes
from contract.serving.process import until
from contract.serving.zygote import Zygote
from support.databases import DatabaseServer, Postgresql, Redis

STORED = "idempotency-stored"
TIMEOUT = 0.5
LONG = 60_000
FAST = 0.1
"""Seconds that a refusal takes at most, once the store is known not to answer: a store's timeout is longer."""


@pytest.fixture(scope="module", params=[Redis, Postgresql])
def module_database(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    with request.param() as server:
        yield server


@pytest.fixture
def database(module_database: DatabaseServer) -> Iterator[DatabaseServer]:
    """A store that is there when the test begins, and again when it ends."""
    yield module_database
    module_database.resume()
    if module_database.process.poll() is not None:
        module_database.start()


@pytest.fixture
def servers(zygote: Zygote, tmp_path: Path, database: DatabaseServer) -> Iterator[Fleet]:
    with Fleet(zygote, tmp_path, f"{database.url}?timeout={TIMEOUT}") as fleet:
        yield fleet


def refused(answer: httpx.Response) -> bool:
    """Tell whether an answer says that the store failed, and when to come again."""
    if answer.status_code != 503:
        return False
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:onceserve:problem:store-failed"
    return int(answer.headers["retry-after"]) >= 1


def seconds_of_refusal(caller: httpx.Client) -> float:
    """Return how long it takes to be refused."""
    began = time.monotonic()
    assert refused(ask(caller, new_key()))
    return time.monotonic() - began


def recovers(caller: httpx.Client, key: str, work: int = 0) -> httpx.Response:
    """Return the answer that comes once the store is back."""

    def answered() -> httpx.Response | None:
        answer = ask(caller, key, work)
        return None if refused(answer) else answer

    return until(answered, "it recovers by itself")


def test_a_dead_store_costs_only_requests_with_a_key(database: DatabaseServer, servers: Fleet) -> None:
    with callers(servers.start()) as [caller]:
        key = new_key()
        first = ask(caller, key)
        database.kill()
        assert all(refused(ask(caller, new_key())) for _ in range(5))
        assert refused(ask(caller, key))
        assert median(seconds_of_refusal(caller) for _ in range(3)) < FAST
        assert caller.post(PATH, json=body()).status_code == 200
        assert caller.get("/v2/health/ready").status_code == 200
        database.start()
        assert recovers(caller, new_key()).status_code == 200
        again = ask(caller, key)
        assert (again.content, is_replay(again)) == (first.content, True)


def test_a_store_that_hangs_holds_nobody_for_long(database: DatabaseServer, servers: Fleet) -> None:
    with callers(servers.start()) as [caller], ThreadPoolExecutor(8) as pool:
        assert ask(caller, new_key()).status_code == 200
        database.pause()
        began = time.monotonic()
        asked = [pool.submit(ask, caller, new_key()) for _ in range(8)]
        assert caller.post(PATH, json=body()).status_code == 200
        assert time.monotonic() - began < TIMEOUT
        assert all(refused(one.result()) for one in asked)
        assert time.monotonic() - began < 20 * TIMEOUT
        # One in a second is let through, to see whether the store is back.
        assert median(seconds_of_refusal(caller) for _ in range(3)) < FAST
        database.resume()
        assert recovers(caller, new_key()).status_code == 200


def test_a_store_that_dies_while_a_request_runs(database: DatabaseServer, servers: Fleet) -> None:
    server, other = servers.start("--idempotency-lease", "1"), servers.start("--idempotency-lease", "1")
    key = new_key()
    with callers(server, other) as [caller, elsewhere], ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, caller, key, LONG)
        until(lambda: begun(server) == 1, "it runs")
        database.kill()
        assert refused(asked.result())
        database.start()
        answer = until(lambda: answered(caller, key), "its answer")
        again = ask(elsewhere, key, LONG)
    assert (answer.status_code, answer.headers[ATTEMPT]) == (200, "2")
    assert (again.content, is_replay(again)) == (answer.content, True)


def answered(caller: httpx.Client, key: str) -> httpx.Response | None:
    answer = ask(caller, key, LONG, Prefer="wait=10")
    return None if answer.status_code in (409, 503) else answer


def test_a_store_may_come_later_than_its_server(database: DatabaseServer, servers: Fleet) -> None:
    database.kill()
    with callers(servers.start()) as [caller]:
        assert refused(ask(caller, new_key()))
        assert caller.post(PATH, json=body()).status_code == 200
        database.start()
        assert recovers(caller, new_key()).status_code == 200


def test_who_asked_for_it_gets_answers_that_are_not_kept(database: DatabaseServer, servers: Fleet) -> None:
    server = servers.start("--idempotency-when-store-fails", "fail-open")
    with callers(server) as [caller]:
        key = new_key()
        kept = ask(caller, key)
        assert STORED not in kept.headers
        database.kill()
        answers = [ask(caller, key) for _ in range(8)]
        assert {(one.status_code, one.headers[STORED]) for one in answers} == {(200, "false")}
        assert len({one.content for one in answers}) == 8
        assert outcomes(server, "bypassed") == 8
        database.start()

        def replayed() -> httpx.Response | None:
            answer = ask(caller, key)
            return answer if is_replay(answer) else None

        assert until(replayed, "it is kept again").content == kept.content
