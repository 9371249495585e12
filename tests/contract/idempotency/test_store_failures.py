"""A store that dies, hangs or is not there: requests with a key are refused at once, all others are answered."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import httpx
import pytest

from contract.idempotency.conftest import TIMEOUT
from contract.idempotency.dice import PATH, ask, body, is_replay, new_key
from contract.idempotency.fleet import (
    Fleet,
    aside,
    begun,
    callers,
    executions,
    inflight,
    outcomes,
    refused,
    rejected,
)
from contract.serving.process import until
from contract.serving.zygote import Zygote
from support.databases import DatabaseServer

STORED = "idempotency-stored"
FAST = 0.1
"""Seconds that a refusal takes at most, once the store is known not to answer: a store's timeout is longer."""

MORE = 20_000
"""Work of some 0.2 s."""


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


@pytest.fixture
def patient(zygote: Zygote, tmp_path: Path, database: DatabaseServer) -> Iterator[Fleet]:
    """Servers that wait for the store longer than the test takes."""
    with Fleet(zygote, tmp_path, f"{database.url}?timeout=20") as fleet:
        yield fleet


def test_a_store_that_hangs_takes_no_room_from_requests_without_a_key(database: DatabaseServer, patient: Fleet) -> None:
    concurrency, queue = 4, 8
    most = concurrency + queue
    server = patient.start("--max-concurrency", str(concurrency), "--max-queue", str(queue))
    with callers(server) as [caller], ThreadPoolExecutor(64) as pool:
        assert ask(caller, new_key()).status_code == 200
        database.pause()
        asked = [pool.submit(ask, caller, new_key()) for _ in range(concurrency)]
        until(lambda: inflight(server) == concurrency, "they wait for the store")
        until(lambda: aside(server) == concurrency, "they have given their places to others")
        asked += [pool.submit(ask, caller, new_key()) for _ in range(10 * concurrency)]
        until(lambda: sum(not one.done() for one in asked) == most, "as many as may wait for the store")
        assert aside(server) == most
        done = [one.result() for one in asked if one.done()]
        assert all(refused(one, "store-busy") for one in done)
        assert rejected(server, "store") == len(done) == len(asked) - most
        others = [pool.submit(caller.post, PATH, json=body(MORE)) for _ in range(most)]
        assert {one.result().status_code for one in others} == {200}
        waiting = [one for one in asked if not one.done()]
        assert len(waiting) == most
        database.resume()
        assert {one.result().status_code for one in waiting} == {200}
        assert aside(server) == 0
        assert rejected(server) == 0


def test_neither_does_one_that_hangs_when_an_answer_is_there(database: DatabaseServer, patient: Fleet) -> None:
    server = patient.start("--max-concurrency", "1", "--max-queue", "1")
    with callers(server) as [caller], ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, caller, new_key(), MORE)
        until(lambda: begun(server) == 1, "it runs")
        database.pause()
        until(lambda: executions(server) == 1, "its answer is there")
        assert caller.post(PATH, json=body()).status_code == 200
        assert not asked.done()
        database.resume()
        assert asked.result().status_code == 200


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
