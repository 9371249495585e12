"""The ledger has one row for each answer, made with it."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from contract.stores.places import ANOTHER, FINGERPRINT, again, claim, completion
from onceserve_serving.errors import InvalidSettingsError
from onceserve_serving.idempotency.ledger import Ledger, LedgerEntry, LedgerFilter, LedgerRow
from onceserve_serving.idempotency.store import (
    Claim,
    Committed,
    Completion,
    Lost,
    LostDone,
    Store,
    Takeover,
)
from onceserve_serving.idempotency.stores import open_ledger, open_store
from support.databases import PgBouncer, Postgresql
from support.waiting import eventually

ROW = LedgerRow("acme", "risk", "sha256:aa", "risk-1")


@pytest.fixture(scope="module")
def urls(cluster: Postgresql) -> Iterator[dict[str, str]]:
    """The database, and the way there through a pooler."""
    with PgBouncer(cluster) as pooler:
        yield {"direct": cluster.database("ledger"), "pooled": pooler.url_of("ledger")}


@pytest.fixture(params=["direct", "pooled"])
def url(request: pytest.FixtureRequest, urls: dict[str, str]) -> str:
    return f"{urls[request.param]}?timeout=20"


@pytest_asyncio.fixture
async def store(url: str) -> AsyncIterator[Store]:
    store = open_store(url)
    await store.open()
    yield store
    await store.close()


@pytest_asyncio.fixture
async def ledger(url: str, store: Store) -> AsyncIterator[Ledger]:
    ledger = open_ledger(url)
    await ledger.open()
    yield ledger
    await ledger.close()


def entered(of: Claim, row: LedgerRow = ROW) -> Completion:
    return completion(of, ANOTHER)._replace(ledger=row)


async def entries(ledger: Ledger, **wanted: object) -> list[LedgerEntry]:
    return [entry async for entry in ledger.entries(LedgerFilter(**wanted))]  # type: ignore[arg-type]


async def test_a_completion_makes_one_row_however_often_it_is_repeated(store: Store, ledger: Ledger) -> None:
    first = claim(lease=0.001)
    await store.claim(first)
    await asyncio.sleep(0.01)
    second = again(first)
    granted = await store.claim(second)
    assert await store.complete(entered(first)) == Lost()
    completed = await asyncio.gather(*(store.complete(entered(second)) for _ in range(5)))
    assert completed == [Committed()] * 5
    assert await store.complete(entered(first)) == LostDone(ANOTHER)
    [entry] = await entries(ledger, record=first.record)
    assert isinstance(granted, Takeover)
    assert (entry.request, entry.attempt, entry.fence) == (FINGERPRINT.current, 2, granted.fence)
    assert (entry.tenant, entry.model, entry.model_digest, entry.revision, entry.status) == (*ROW, 500)
    assert entry.started_at <= entry.completed_at <= datetime.now(UTC) + timedelta(minutes=1)


async def test_rows_are_for_those_that_have_one(store: Store, ledger: Ledger) -> None:
    claims = [claim() for _ in range(20)]
    await asyncio.gather(*(store.claim(each) for each in claims))
    mixed = [entered(each) if at % 2 else completion(each) for at, each in enumerate(claims)]
    assert await asyncio.gather(*(store.complete(each) for each in mixed)) == [Committed()] * 20
    assert [len(await entries(ledger, record=each.record)) for each in claims] == [0, 1] * 10


async def test_a_row_that_cannot_be_written_leaves_no_answer(store: Store) -> None:
    first = claim()
    await store.claim(first)
    for tenant in ("a\0b", "a\ud800b"):
        with pytest.raises(ValueError, match=r"NUL character|surrogates not allowed"):
            await store.complete(entered(first, ROW._replace(tenant=tenant)))
    read = await store.read(first.record)
    assert read is not None
    assert read.answer is None
    assert await store.complete(entered(first)) == Committed()


async def test_entries_are_filtered(store: Store, ledger: Ledger) -> None:
    x, y, m, n = (uuid4().hex for _ in range(4))
    rows = [ROW._replace(tenant=tenant, model=model) for tenant in (x, y) for model in (m, n)]
    before = datetime.now(UTC) - timedelta(hours=1)
    for row in rows:
        mine = claim()
        await store.claim(mine)
        await store.complete(entered(mine, row))
    assert [(entry.tenant, entry.model) for entry in await entries(ledger, tenant=x)] == [(x, m), (x, n)]
    assert [(entry.tenant, entry.model) for entry in await entries(ledger, model=n)] == [(x, n), (y, n)]
    assert await entries(ledger, tenant=x, until=before) == []
    assert len(await entries(ledger, tenant=x, since=before, until=before + timedelta(hours=2))) == 2
    numbers = [entry.id for entry in await entries(ledger)]
    assert numbers == sorted(set(numbers))


ROWS = 20_000
"""Rows that are written at once: more than the index sums up in one."""


async def test_the_newest_rows_are_found_without_reading_all() -> None:
    """Also where no vacuum has come by since they were written."""
    with Postgresql(autovacuum_naptime="1s", autovacuum_vacuum_insert_threshold="-1") as server:
        store = open_store(f"{server.url}?timeout=20")
        await store.sweep()
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


OPTIONS = "SELECT reloptions FROM pg_class WHERE relname = 'onceserve_ledger_completed'"
TUNED = "{autosummarize=on}"

SOON = 1.0
"""Seconds within which a completion is answered though the index is being tuned; a reader reads for longer."""


async def test_who_reads_the_ledger_keeps_no_answer_waiting_and_its_index_is_tuned_later(
    url: str, cluster: Postgresql
) -> None:
    name = f"read_{uuid4().hex}"
    url = url.replace("/ledger?", f"/{name}?")
    reader = await asyncpg.connect(cluster.database(name))
    store = open_store(url)
    await store.open()
    reading = reader.transaction()
    await reading.start()
    await reader.fetch("SELECT 1 FROM onceserve_ledger")
    claims = [claim() for _ in range(20)]
    await asyncio.gather(*(store.claim(each) for each in claims))
    tuning = asyncio.create_task(store.sweep())
    for each in claims:
        async with asyncio.timeout(SOON):
            assert await store.complete(entered(each)) == Committed()
        await asyncio.sleep(0.01)
    await asyncio.wait_for(tuning, SOON)
    assert cluster.execute(OPTIONS, name) == ""
    await reading.rollback()
    await store.sweep()
    assert cluster.execute(OPTIONS, name) == TUNED
    await reader.close()
    await store.close()


async def test_what_somebody_has_chosen_for_the_index_stays(cluster: Postgresql) -> None:
    store = open_store(f"{cluster.database('chosen')}?timeout=20")
    await store.open()
    cluster.execute("ALTER INDEX onceserve_ledger_completed SET (autosummarize = off)", "chosen")
    await store.sweep()
    assert cluster.execute(OPTIONS, "chosen") == "{autosummarize=off}"
    await store.close()


PARTITIONED = """
ALTER TABLE onceserve_ledger RENAME TO former; ALTER INDEX onceserve_ledger_completed RENAME TO former_completed;
CREATE TABLE onceserve_ledger (LIKE former INCLUDING IDENTITY INCLUDING DEFAULTS) PARTITION BY RANGE (completed_at);
CREATE INDEX onceserve_ledger_completed ON onceserve_ledger USING brin (completed_at);
CREATE TABLE rest PARTITION OF onceserve_ledger DEFAULT
"""


async def test_a_ledger_may_be_partitioned(cluster: Postgresql) -> None:
    url = f"{cluster.database('partitioned')}?timeout=20"
    first = open_store(url)
    await first.open()
    await first.close()
    cluster.execute(PARTITIONED, "partitioned")
    store, ledger, mine = open_store(url), open_ledger(url), claim()
    await store.open()
    await store.claim(mine)
    await store.complete(entered(mine))
    await store.sweep()
    await ledger.open()
    assert len(await entries(ledger)) == 1
    await store.close()
    await ledger.close()


async def test_who_reads_makes_nothing(cluster: Postgresql) -> None:
    ledger = open_ledger(f"{cluster.database('untouched')}?timeout=20")
    with pytest.raises(
        InvalidSettingsError, match=r'"onceserve_ledger" does not exist; .* store, and .* were expected'
    ):
        await ledger.open()
    await ledger.close()
    assert cluster.execute("SELECT count(*) FROM pg_class WHERE relname LIKE 'onceserve%'", "untouched") == "0"


@pytest.mark.parametrize("table", ["onceserve_ledger", "onceserve_migration"])
async def test_who_reads_needs_both_rights(cluster: Postgresql, table: str) -> None:
    name = f"without_{table}"
    store = open_store(url := cluster.database(name))
    await store.open()
    await store.close()
    others = {"onceserve_ledger", "onceserve_migration"} - {table}
    cluster.execute(f"CREATE ROLE {name} LOGIN; GRANT SELECT ON {others.pop()} TO {name}", name)
    ledger = open_ledger(f"{url.replace('onceserve@', f'{name}@')}?timeout=20")
    with pytest.raises(InvalidSettingsError, match=f"permission denied for table {table}; .* SELECT on .* expected"):
        await ledger.open()
    await ledger.close()


@pytest.mark.parametrize("scheme", ["memory:", "sqlite:{}/store.db", "redis://localhost"])
def test_only_postgresql_has_a_ledger(scheme: str) -> None:
    with pytest.raises(InvalidSettingsError, match="only a store postgresql:// has a ledger"):
        open_ledger(scheme)
