"""Requests that meet, and requests whose callers or servers leave before they are answered."""

import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import orjson
import pytest

from contract.idempotency.dice import ATTEMPT, KEY, PATH, ask, body, is_replay, new_key
from contract.idempotency.fleet import Fleet, begun, callers, executions, outcomes, runs
from contract.serving.process import Server, until

LONG = 60_000
"""Work of some 0.6 s or more: what the test does meanwhile takes less."""

LEASE = 1.0
SHORT_LEASE = ("--idempotency-lease", str(LEASE))
FOREVER = 10**9


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as threads:
        yield threads


def leave(server: Server, key: str, work: int) -> None:
    """Ask, and leave when the request is being answered."""
    content = orjson.dumps(body(work))
    headers = f"Host: x\r\n{KEY}: {key}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    head = f"POST {PATH} HTTP/1.1\r\n{headers}\r\n\r\n"
    place = urlsplit(server.url())
    with socket.create_connection((place.hostname, place.port)) as leaver:
        leaver.sendall(head.encode() + content)
        until(lambda: begun(server) == 1, "it is being answered")


def test_a_second_request_meanwhile_is_told_to_come_again(fleet: Fleet, pool: ThreadPoolExecutor) -> None:
    running, other = fleet.start(), fleet.start()
    key = new_key()
    with callers(running, other) as [a, b]:
        first = pool.submit(ask, a, key, LONG)
        until(lambda: begun(running) == 1, "the first runs")
        refused = ask(b, key, LONG)
        assert not first.done()
        assert (refused.status_code, refused.json()["title"]) == (
            409,
            "A request with this Idempotency-Key is being answered",
        )
        assert 1 <= int(refused.headers["retry-after"]) <= 30
        assert ask(b, key, LONG + 1).status_code == 422
        waited = ask(b, key, LONG, Prefer="wait=20")
        assert first.result().status_code == waited.status_code == 200
        assert (waited.content, is_replay(waited)) == (first.result().content, True)
        assert executions(other) == 0


def test_who_would_not_wait_so_long_is_told_to_come_again(file_fleet: Fleet, pool: ThreadPoolExecutor) -> None:
    running, other = file_fleet.start(), file_fleet.start()
    key = new_key()
    with callers(running, other) as [a, b]:
        first = pool.submit(ask, a, key, 4 * LONG)
        until(lambda: begun(running) == 1, "the first runs")
        began = time.monotonic()
        impatient = pool.submit(ask, b, key, 4 * LONG, Prefer="respond-async, wait=1")
        until(lambda: runs(other), "one waits")
        patient = pool.submit(ask, b, key, 4 * LONG, Prefer="wait=30")
        assert impatient.result().status_code == 409
        assert time.monotonic() - began >= 1
        assert (patient.result().content, is_replay(patient.result())) == (first.result().content, True)


def test_a_server_may_let_all_wait(file_fleet: Fleet, pool: ThreadPoolExecutor) -> None:
    running, other = file_fleet.start(), file_fleet.start("--idempotency-on-conflict", "wait")
    key = new_key()
    with callers(running, other) as [a, b]:
        first = pool.submit(ask, a, key, LONG)
        until(lambda: begun(running) == 1, "the first runs")
        assert ask(b, key, LONG).content == first.result().content


def test_equal_requests_that_meet_in_a_server_are_run_once(fleet: Fleet, pool: ThreadPoolExecutor) -> None:
    server = fleet.start()
    key = new_key()
    with callers(server) as [caller]:
        asked = [pool.submit(ask, caller, key, LONG) for _ in range(10)]
        answers = [one.result() for one in asked]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert sum(not is_replay(answer) for answer in answers) == 1
    assert executions(server) == 1
    assert outcomes(server, "first") == 1
    assert outcomes(server, "coalesced") + outcomes(server, "replayed") == 9


def test_another_request_that_meets_it_in_a_server_is_refused(file_fleet: Fleet, pool: ThreadPoolExecutor) -> None:
    server = file_fleet.start()
    key = new_key()
    with callers(server) as [caller]:
        first = pool.submit(ask, caller, key, LONG)
        until(lambda: begun(server) == 1, "the first runs")
        assert ask(caller, key, 1).status_code == 422
        assert first.result().status_code == 200


def test_who_left_finds_the_answer_of_that_run(fleet: Fleet) -> None:
    server, other = fleet.start(), fleet.start()
    key = new_key()
    with callers(server, other) as [caller, elsewhere]:
        leave(server, key, LONG)
        joined = ask(caller, key, LONG)
        replayed = ask(elsewhere, key, LONG)
    assert joined.status_code == 200
    assert is_replay(joined)
    assert (replayed.content, is_replay(replayed)) == (joined.content, True)
    assert executions(server) == 1


def test_a_drain_completes_what_was_begun(fleet: Fleet, pool: ThreadPoolExecutor) -> None:
    server, other = fleet.start(), fleet.start()
    asked, left = new_key(), new_key()
    with callers(server, other) as [caller, elsewhere]:
        leave(server, left, LONG)
        first = pool.submit(ask, caller, asked, LONG)
        until(lambda: begun(server) == 2, "the second runs")
        server.signal()
        assert (first.result().status_code, is_replay(first.result())) == (200, False)
        assert server.wait() == 0
        again, of_who_left = ask(elsewhere, asked, LONG), ask(elsewhere, left, LONG)
    assert (again.content, is_replay(again)) == (first.result().content, True)
    assert is_replay(of_who_left)
    assert executions(other) == 0


def test_a_drain_waits_for_what_nobody_waits_for(file_fleet: Fleet) -> None:
    server, other = file_fleet.start(), file_fleet.start()
    key = new_key()
    with callers(server, other) as [_, elsewhere]:
        leave(server, key, LONG)
        server.signal()
        assert server.wait() == 0
        assert is_replay(ask(elsewhere, key, LONG))


def test_a_request_whose_server_dies_is_run_by_another(fleet: Fleet, pool: ThreadPoolExecutor) -> None:
    server, other = fleet.start(*SHORT_LEASE), fleet.start(*SHORT_LEASE)
    key = new_key()
    with callers(server, other) as [caller, elsewhere]:
        first = pool.submit(ask, caller, key, LONG)
        until(lambda: begun(server) == 1, "the first runs")
        server.signal(signal.SIGKILL)
        with pytest.raises(httpx.HTTPError):
            first.result()
        began = time.monotonic()
        taken = ask(elsewhere, key, LONG, Prefer="wait=20")
        assert (taken.status_code, taken.headers[ATTEMPT], is_replay(taken)) == (200, "2", False)
        assert time.monotonic() - began < 10 * LEASE
        assert ask(elsewhere, key, LONG).content == taken.content
    assert outcomes(other, "taken_over") == 1


def test_a_server_that_stood_still_gives_the_answer_of_who_took_over(fleet: Fleet, pool: ThreadPoolExecutor) -> None:
    server, other = fleet.start(*SHORT_LEASE), fleet.start(*SHORT_LEASE)
    key = new_key()
    with callers(server, other) as [caller, elsewhere]:
        first = pool.submit(ask, caller, key, LONG)
        until(lambda: begun(server) == 1, "the first runs")
        server.signal(signal.SIGSTOP)
        taken = ask(elsewhere, key, LONG, Prefer="wait=20")
        server.signal(signal.SIGCONT)
        late = first.result()
    assert (taken.status_code, taken.headers[ATTEMPT]) == (200, "2")
    assert (late.status_code, late.content, is_replay(late)) == (200, taken.content, True)
    assert outcomes(server, "lost") == 1


def test_a_request_that_outlasts_many_leases_is_run_once(fleet: Fleet, pool: ThreadPoolExecutor) -> None:
    server, other = fleet.start(*SHORT_LEASE), fleet.start(*SHORT_LEASE)
    key = new_key()
    with callers(server, other) as [a, b]:
        first = pool.submit(ask, a, key, 6 * LONG)
        until(lambda: begun(server) == 1, "the first runs")
        assert ask(b, key, 6 * LONG, Prefer="wait=30").content == first.result().content
    assert first.result().headers[ATTEMPT] == "1"
    assert executions(other) == 0


def dies_of(key: str, server: Server, pool: ThreadPoolExecutor) -> None:
    """Kill a server when it runs a request."""
    with callers(server) as [caller]:
        asked = pool.submit(ask, caller, key, FOREVER, Prefer="wait=20")
        until(lambda: begun(server) == 1, "it runs")
        server.signal(signal.SIGKILL)
        with pytest.raises(httpx.HTTPError):
            asked.result()


def test_what_ends_each_server_that_runs_it_is_not_run_for_ever(file_fleet: Fleet, pool: ThreadPoolExecutor) -> None:
    key = new_key()
    for _ in range(3):
        dies_of(key, file_fleet.start(*SHORT_LEASE), pool)
    with callers(file_fleet.start(*SHORT_LEASE)) as [caller]:
        poisoned = ask(caller, key, FOREVER, Prefer="wait=20")
        again = ask(caller, key, FOREVER)
    assert (poisoned.status_code, poisoned.json()["type"]) == (500, "urn:onceserve:problem:poisoned")
    assert "3 times" in poisoned.json()["detail"]
    assert (again.status_code, again.content, is_replay(again)) == (500, poisoned.content, True)


@pytest.mark.parametrize(("options", "status"), [(("--max-queue", "0"), 429), ((), 504)])
def test_what_never_ran_is_not_kept(
    file_fleet: Fleet, pool: ThreadPoolExecutor, options: tuple[str, ...], status: int
) -> None:
    server = file_fleet.start("--max-concurrency", "1", *options)
    key = new_key()
    with callers(server) as [caller]:
        running = pool.submit(ask, caller, new_key(), LONG)
        until(lambda: begun(server) == 1, "another runs")
        refused = ask(caller, key, **{"X-Request-Timeout": "50ms"})
        assert refused.status_code == status
        assert not is_replay(refused)
        assert running.result().status_code == 200
        answer = ask(caller, key)
    assert (answer.status_code, answer.headers[ATTEMPT], is_replay(answer)) == (200, "1", False)


def test_what_never_ran_though_it_was_claimed_is_not_kept(file_fleet: Fleet, pool: ThreadPoolExecutor) -> None:
    server = file_fleet.start("--max-concurrency", "2")
    key = new_key()
    with callers(server) as [caller]:
        running = pool.submit(ask, caller, new_key(), 2 * LONG)
        until(lambda: begun(server) == 1, "another runs")
        assert ask(caller, key, **{"X-Request-Timeout": "100ms"}).status_code == 504
        assert running.result().status_code == 200
        answer = ask(caller, key)
    assert (answer.status_code, answer.headers[ATTEMPT], is_replay(answer)) == (200, "1", False)
