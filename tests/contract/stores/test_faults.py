"""Stores that stop, vanish and come back. Calls end in time and say whether anything may have been written."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from contract.stores.places import ANSWER, again, claim, completion
from onceserve_serving.idempotency.store import (
    Committed,
    Done,
    New,
    Owned,
    Store,
    StoreUnavailableError,
    UnknownOutcomeError,
)
from onceserve_serving.idempotency.stores import open_store
from support.databases import DatabaseServer, Postgresql, Redis

TIMEOUT = 1.0
MARGIN = 3 * TIMEOUT
"""For a call that waits for the one before it, on a machine that has other things to do."""


@pytest.fixture(scope="module", params=[Redis, Postgresql])
def module_server(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    with request.param() as server:
        yield server


@pytest.fixture
def server(module_server: DatabaseServer) -> Iterator[DatabaseServer]:
    """A server that is there when the test begins, and again when it ends."""
    yield module_server
    module_server.resume()
    if module_server.process.poll() is not None:
        module_server.start()


async def _opened(url: str) -> AsyncIterator[Store]:
    store = open_store(url)
    await store.open()
    # Each kind of call has its connection from now on.
    first = claim()
    await store.claim(first)
    await store.complete(completion(first))
    await store.read(first.record)
    yield store
    await store.close()


@pytest_asyncio.fixture
async def store(server: DatabaseServer) -> AsyncIterator[Store]:
    """One that does not wait long."""
    async for store in _opened(f"{server.url}?timeout={TIMEOUT}"):
        yield store


@pytest_asyncio.fixture
async def patient(server: DatabaseServer) -> AsyncIterator[Store]:
    """One that waits for as long as a busy machine may need."""
    async for store in _opened(f"{server.url}?timeout=30"):
        yield store


async def test_a_store_that_hangs_is_given_up_on(server: DatabaseServer, store: Store, patient: Store) -> None:
    held = claim()
    await store.claim(held)
    server.pause()
    begin = time.monotonic()
    sent, later = (
        [store.claim(claim()), store.complete(completion(held))],
        [store.claim(claim()), store.read(held.record)],
    )
    outcomes = await asyncio.gather(*sent, *later, return_exceptions=True)
    assert time.monotonic() - begin < MARGIN
    assert {type(outcome) for outcome in outcomes[:2]} == {UnknownOutcomeError}
    assert {type(outcome) for outcome in outcomes[2:]} <= {UnknownOutcomeError, StoreUnavailableError}
    server.resume()
    # What was sent before may still arrive, and after it the same again.
    assert await patient.complete(completion(held)) == Committed()
    assert await patient.claim(again(held)) == Done(ANSWER)


async def test_a_store_that_hangs_from_the_start_is_unavailable(server: DatabaseServer) -> None:
    server.pause()
    store = open_store(f"{server.url}?timeout={TIMEOUT}")
    begin = time.monotonic()
    with pytest.raises(StoreUnavailableError, match=r"no answer within 1 s; nothing was written"):
        await store.open()
    assert time.monotonic() - begin < MARGIN
    with pytest.raises(StoreUnavailableError):
        await store.claim(claim())
    server.resume()
    await asyncio.sleep(TIMEOUT)
    assert isinstance(await store.claim(claim()), New)
    await store.close()


async def test_a_store_that_is_gone_is_unavailable_and_used_again_when_it_is_back(
    server: DatabaseServer, patient: Store
) -> None:
    held = claim()
    new = await patient.claim(held)
    server.kill()
    await asyncio.sleep(0.1)
    with pytest.raises(StoreUnavailableError, match="nothing was written"):
        await patient.claim(claim())
    with pytest.raises(StoreUnavailableError, match="nothing was written"):
        await patient.complete(completion(held))
    await asyncio.to_thread(server.start)
    assert isinstance(new, New)
    assert await patient.claim(held) == Owned(new.fence, 1)
    assert await patient.complete(completion(held)) == Committed()
    assert await patient.claim(again(held)) == Done(ANSWER)


async def test_what_was_acknowledged_survives_a_store_that_dies_under_load(
    server: DatabaseServer, patient: Store
) -> None:
    acknowledged, enough = [], asyncio.Event()

    async def client() -> None:
        while True:
            mine = claim()
            await patient.claim(mine)
            await patient.complete(completion(mine))
            acknowledged.append(mine)
            if len(acknowledged) == 200:
                enough.set()

    clients = [asyncio.create_task(client()) for _ in range(16)]
    await enough.wait()
    server.kill()
    outcomes = await asyncio.gather(*clients, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} <= {UnknownOutcomeError, StoreUnavailableError}
    await asyncio.to_thread(server.start)
    answers = await asyncio.gather(*(patient.claim(again(each)) for each in acknowledged))
    assert answers == [Done(ANSWER)] * len(acknowledged)


async def test_a_restart_between_two_calls_goes_unnoticed(server: DatabaseServer, patient: Store) -> None:
    held = claim()
    await patient.claim(held)
    server.kill()
    await asyncio.to_thread(server.start)
    assert await patient.complete(completion(held)) == Committed()


async def test_who_closes_a_store_that_hangs_does_not_wait_for_it(server: DatabaseServer, store: Store) -> None:
    server.pause()
    calls = [asyncio.create_task(store.claim(claim())) for _ in range(3)]
    await asyncio.sleep(0.05)
    late = asyncio.create_task(store.claim(claim()))
    await asyncio.sleep(0)
    begin = time.monotonic()
    await store.close()
    assert time.monotonic() - begin < MARGIN
    outcomes = await asyncio.gather(*calls, late, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [UnknownOutcomeError] * 3 + [StoreUnavailableError]


async def test_a_sqlite_file_that_another_holds_is_unavailable_and_not_written(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = open_store(f"sqlite://{path}?timeout={TIMEOUT}")
    await store.open()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    begin, mine = time.monotonic(), claim()
    with pytest.raises(StoreUnavailableError, match="database is locked; nothing was written"):
        await store.claim(mine)
    assert time.monotonic() - begin < MARGIN
    other.execute("ROLLBACK")
    other.close()
    assert isinstance(await store.claim(mine), New)
    await store.close()


async def test_a_sqlite_file_without_room_is_unavailable_and_not_written(tmp_path: Path) -> None:
    store = open_store(f"sqlite://{tmp_path}/store.db")
    await store.open()
    held = claim()
    await store.claim(held)
    await store._file.run(lambda connection: connection.execute("PRAGMA max_page_count = 1"))  # type: ignore[attr-defined]
    with pytest.raises(StoreUnavailableError, match="database or disk is full; nothing was written"):
        await asyncio.gather(*(store.claim(claim()) for _ in range(100)))
    await store._file.run(lambda connection: connection.execute("PRAGMA max_page_count = 100000"))  # type: ignore[attr-defined]
    assert await store.complete(completion(held)) == Committed()
    await store.close()
