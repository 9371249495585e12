"""The ledger has one row for each answer, made with it."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import pytest_asyncio

from contract.stores.places import ANOTHER, FINGERPRINT, again, claim, completion
from onceserve_serving.errors import InvalidSettingsError
from onceserve_serving.idempotency.ledger import LedgerEntry, LedgerFilter, LedgerRow
from onceserve_serving.idempotency.store import (
    Claim,
    Committed,
    Completion,
    LedgerStore,
    Lost,
    LostDone,
    Takeover,
)
from onceserve_serving.idempotency.stores import open_ledger
from support.databases import PgBouncer, Postgresql
from support.waiting import eventually

ROW = LedgerRow("acme", "risk", "sha256:aa", "risk-1")


@pytest.fixture(scope="module")
def urls(cluster: Postgresql) -> Iterator[dict[str, str]]:
    """The database, and the way there through a pooler."""
    with PgBouncer(cluster) as pooler:
        yield {"direct": cluster.database("ledger"), "pooled": pooler.url_of("ledger")}


@pytest_asyncio.fixture(params=["direct", "pooled"])
async def store(request: pytest.FixtureRequest, urls: dict[str, str]) -> AsyncIterator[LedgerStore]:
    store = open_ledger(f"{urls[request.param]}?timeout=20")
    await store.open()
    yield store
    await store.close()


def entered(of: Claim, row: LedgerRow = ROW) -> Completion:
    return completion(of, ANOTHER)._replace(ledger=row)


async def entries(store: LedgerStore, **wanted: object) -> list[LedgerEntry]:
    return [entry async for entry in store.entries(LedgerFilter(**wanted))]  # type: ignore[arg-type]


async def test_a_completion_makes_one_row_however_often_it_is_repeated(store: LedgerStore) -> None:
    first = claim(lease=0.001)
    await store.claim(first)
    await asyncio.sleep(0.01)
    second = again(first)
    granted = await store.claim(second)
    assert await store.complete(entered(first)) == Lost()
    completed = await asyncio.gather(*(store.complete(entered(second)) for _ in range(5)))
    assert completed == [Committed()] * 5
    assert await store.complete(entered(first)) == LostDone(ANOTHER)
    [entry] = await entries(store, record=first.record)
    assert isinstance(granted, Takeover)
    assert (entry.request, entry.attempt, entry.fence) == (FINGERPRINT.current, 2, granted.fence)
    assert (entry.tenant, entry.model, entry.model_digest, entry.revision, entry.status) == (*ROW, 500)
    assert entry.started_at <= entry.completed_at <= datetime.now(UTC) + timedelta(minutes=1)


async def test_rows_are_for_those_that_have_one(store: LedgerStore) -> None:
    claims = [claim() for _ in range(20)]
    await asyncio.gather(*(store.claim(each) for each in claims))
    mixed = [entered(each) if at % 2 else completion(each) for at, each in enumerate(claims)]
    assert await asyncio.gather(*(store.complete(each) for each in mixed)) == [Committed()] * 20
    assert [len(await entries(store, record=each.record)) for each in claims] == [0, 1] * 10


async def test_a_row_that_cannot_be_written_leaves_no_answer(store: LedgerStore) -> None:
    first = claim()
    await store.claim(first)
    for tenant in ("a\0b", "a\ud800b"):
        with pytest.raises(ValueError, match=r"NUL character|surrogates not allowed"):
            await store.complete(entered(first, ROW._replace(tenant=tenant)))
    read = await store.read(first.record)
    assert read is not None
    assert read.answer is None
    assert await store.complete(entered(first)) == Committed()


async def test_entries_are_filtered(store: LedgerStore) -> None:
    x, y, m, n = (uuid4().hex for _ in range(4))
    rows = [ROW._replace(tenant=tenant, model=model) for tenant in (x, y) for model in (m, n)]
    before = datetime.now(UTC) - timedelta(hours=1)
    for row in rows:
        mine = claim()
        await store.claim(mine)
        await store.complete(entered(mine, row))
    assert [(entry.tenant, entry.model) for entry in await entries(store, tenant=x)] == [(x, m), (x, n)]
    assert [(entry.tenant, entry.model) for entry in await entries(store, model=n)] == [(x, n), (y, n)]
    assert await entries(store, tenant=x, until=before) == []
    assert len(await entries(store, tenant=x, since=before, until=before + timedelta(hours=2))) == 2
    numbers = [entry.id for entry in await entries(store)]
    assert numbers == sorted(set(numbers))


ROWS = 20_000
"""Rows that are written at once: more than the index sums up in one."""


async def test_the_newest_rows_are_found_without_reading_all() -> None:
    """Also where no vacuum has come by since they were written."""
    with Postgresql(autovacuum_naptime="1s", autovacuum_vacuum_insert_threshold="-1") as server:
        store = open_ledger(f"{server.url}?timeout=20")
        await store.open()
        await store.close()
        for before in range(5, 0, -1):
            server.execute(
                "INSERT INTO onceserve_ledger (record, request, tenant, model, model_digest, revision, attempt, fence,"
                " status, started_at, completed_at) SELECT '', '', '', '', '', '', 1, 1, 200, at, at FROM"
                f" generate_series(1, {ROWS}) AS n, LATERAL (SELECT now() - interval '{before} days') AS each (at)"
            )
        eventually(lambda: read_in_vain(server, "36 hours") < ROWS, "the index knows the newest rows")


def read_in_vain(server: Postgresql, age: str) -> int:
    """Return how many rows are read and not wanted where the younger ones are."""
    query = f"SELECT count(*) FROM onceserve_ledger WHERE completed_at >= now() - interval '{age}'"
    plan = server.execute(f"SET enable_seqscan = off; EXPLAIN (ANALYZE) {query}")
    assert "onceserve_ledger_completed" in plan
    found = re.search(r"Rows Removed by Index Recheck: (\d+)", plan)
    return int(found[1]) if found else 0


@pytest.mark.parametrize("scheme", ["memory:", "sqlite:{}/store.db", "redis://localhost"])
def test_only_postgresql_has_a_ledger(scheme: str) -> None:
    with pytest.raises(InvalidSettingsError, match="only a store postgresql:// has a ledger"):
        open_ledger(scheme)
