"""A store that fails just when an answer is there: the answer is not thrown away, and not given before it is kept."""

import asyncio
import signal
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from contract.idempotency.dice import ATTEMPT, ask, is_replay, new_key
from contract.idempotency.fleet import Fleet, begun, callers, executions, outcomes, refused
from contract.serving.process import Server, until
from contract.serving.zygote import Zygote
from onceserve_operator.resources.drain import TERMINATION_SLACK
from onceserve_serving.idempotency.keys import Keys
from onceserve_serving.idempotency.store import Snapshot, State
from onceserve_serving.idempotency.stores import open_store
from onceserve_serving.observation import ROUTE
from support.databases import DatabaseServer

LONG = 60_000
DELAY, DRAIN = 0.2, 2
LOST = "an answer is lost: the store did not take it while its lease lasted"


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


def kept(database: DatabaseServer, key: str) -> Snapshot:
    """Return what the store has of a key."""

    async def read() -> Snapshot | None:
        store = open_store(database.url)
        await store.open()
        snapshot = await store.read(Keys().record(key.encode(), "", f"POST {ROUTE}"))
        await store.close()
        return snapshot

    found = asyncio.run(read())
    assert found is not None
    return found


def unconfirmed(
    server: Server, caller: httpx.Client, pool: ThreadPoolExecutor, database: DatabaseServer, fails: str
) -> str:
    """Have the store fail while a request runs; return its key when its caller has been refused."""
    key = new_key()
    asked: Future[httpx.Response] = pool.submit(ask, caller, key, LONG)
    until(lambda: begun(server) == 1, "it runs")
    getattr(database, fails)()
    assert refused(asked.result())
    assert executions(server) == 1
    return key


def comes_back(database: DatabaseServer, fails: str) -> None:
    if fails == "pause":
        database.resume()
    else:
        database.start()


@pytest.mark.parametrize("fails", ["pause", "kill"])
def test_a_retry_has_the_first_run_s_answer(
    database: DatabaseServer, servers: Fleet, pool: ThreadPoolExecutor, fails: str
) -> None:
    server, other = servers.start("--idempotency-lease", "60"), servers.start("--idempotency-lease", "60")
    with callers(server, other) as [caller, elsewhere]:
        key = unconfirmed(server, caller, pool, database, fails)
        again = [pool.submit(ask, caller, key, LONG) for _ in range(3)]
        assert refused(ask(elsewhere, key, LONG))
        assert not any(one.done() for one in again)
        comes_back(database, fails)
        joined = [one.result() for one in again]
        replayed = until(lambda: given(elsewhere, key), "its answer elsewhere")
    assert {(one.status_code, one.content, is_replay(one)) for one in joined} == {(200, replayed.content, True)}
    assert (executions(server), executions(other)) == (1, 0)
    assert outcomes(server, "first") == 1
    assert (kept(database, key).state, kept(database, key).attempt) == (State.COMPLETED, 1)


def given(caller: httpx.Client, key: str) -> httpx.Response | None:
    answer = ask(caller, key, LONG, Prefer="wait=10")
    return None if answer.status_code in (409, 503) else answer


def test_a_retry_has_it_from_a_file_that_another_process_held(
    file_fleet: Fleet, file_store: str, pool: ThreadPoolExecutor
) -> None:
    server, key = file_fleet.start(), new_key()
    with callers(server) as [caller], closing(sqlite3.connect(urlsplit(file_store).path)) as other:
        asked = pool.submit(ask, caller, key, LONG)
        until(lambda: begun(server) == 1, "it runs")
        other.execute("BEGIN IMMEDIATE")
        assert refused(asked.result())
        again = pool.submit(ask, caller, key, LONG)
        other.execute("ROLLBACK")
        assert (again.result().status_code, is_replay(again.result())) == (200, True)
    assert executions(server) == 1


def test_after_its_lease_it_is_run_again(database: DatabaseServer, servers: Fleet, pool: ThreadPoolExecutor) -> None:
    server = servers.start("--idempotency-lease", "1")
    with callers(server) as [caller]:
        key = unconfirmed(server, caller, pool, database, "kill")
        until(lambda: LOST in server.log(), "it is given up")
        database.start()
        answer = until(lambda: given(caller, key), "its answer")
        again = ask(caller, key, LONG)
    assert (answer.status_code, answer.headers[ATTEMPT]) == (200, "2")
    assert (again.content, is_replay(again)) == (answer.content, True)


def test_a_drain_waits_until_the_store_has_it(
    database: DatabaseServer, servers: Fleet, pool: ThreadPoolExecutor
) -> None:
    server, other = servers.start("--idempotency-lease", "60"), servers.start()
    with callers(server, other) as [caller, elsewhere]:
        key = unconfirmed(server, caller, pool, database, "kill")
        server.signal()
        time.sleep(1.5)
        assert server.process.poll() is None
        database.start()
        assert server.wait() == 0
        replayed = until(lambda: given(elsewhere, key), "its answer elsewhere")
    assert is_replay(replayed)
    assert executions(other) == 0


def test_a_second_signal_ends_that(database: DatabaseServer, servers: Fleet, pool: ThreadPoolExecutor) -> None:
    server = servers.start("--idempotency-lease", "60")
    with callers(server) as [caller]:
        unconfirmed(server, caller, pool, database, "kill")
    server.signal()
    time.sleep(2)
    assert server.process.poll() is None
    server.signal(signal.SIGTERM)
    assert server.wait(5) == 0


def test_a_store_that_hangs_does_not_keep_a_server_from_ending_before_it_is_killed(
    zygote: Zygote, tmp_path: Path, database: DatabaseServer, pool: ThreadPoolExecutor
) -> None:
    options = ("--idempotency-lease", "1", "--drain-delay", str(DELAY), "--drain-timeout", str(DRAIN))
    with Fleet(zygote, tmp_path, f"{database.url}?timeout=60") as servers:
        server = servers.start(*options)
        with callers(server) as [caller]:
            asked = pool.submit(ask, caller, new_key(), LONG)
            until(lambda: begun(server) == 1, "it runs")
            database.pause()
            until(lambda: executions(server) == 1, "its answer is there")
            server.signal()
            began = time.monotonic()
            assert server.wait() == 0
            assert time.monotonic() - began < DELAY + DRAIN + TERMINATION_SLACK
            with pytest.raises(httpx.HTTPError):
                asked.result().raise_for_status()
