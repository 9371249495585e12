"""Schemas that are made, found, half made, or newer."""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from contract.stores.places import ANSWER, again, claim, completion, ident
from onceserve_serving.errors import InvalidSettingsError
from onceserve_serving.idempotency import migrations
from onceserve_serving.idempotency.record import UnreadableRecordError
from onceserve_serving.idempotency.store import Done, New, Store
from onceserve_serving.idempotency.stores import open_store
from support.databases import Postgresql, Redis

POSTGRESQL = migrations.load("postgresql")


class Database(NamedTuple):
    """One database of a server."""

    server: Postgresql
    name: str
    url: str

    def execute(self, sql: str) -> str:
        return self.server.execute(sql, self.name)


@pytest.fixture
def empty(cluster: Postgresql) -> Database:
    """A database without tables."""
    name = f"schema_{ident().hex()}"
    return Database(cluster, name, cluster.database(name))


async def works(store: Store) -> None:
    first = claim()
    assert isinstance(await store.claim(first), New)
    await store.complete(completion(first))
    assert await store.claim(again(first)) == Done(ANSWER)


async def opened_at_once(make: Callable[[], Store]) -> None:
    stores = [make() for _ in range(8)]
    await asyncio.gather(*(store.open() for store in stores))
    for store in stores:
        await works(store)
        await store.close()


@pytest.mark.parametrize("isolation", ["read committed", "serializable"])
async def test_servers_that_start_at_once_make_one_postgresql_schema(empty: Database, isolation: str) -> None:
    empty.execute(f"ALTER DATABASE {empty.name} SET default_transaction_isolation = '{isolation}'")
    for _ in range(20):
        await opened_at_once(lambda: open_store(f"{empty.url}?timeout=20"))
        applied = empty.execute("SELECT number FROM onceserve_migration ORDER BY 1").split()
        assert applied == [str(step.number) for step in POSTGRESQL]
        empty.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")


async def test_servers_that_start_at_once_make_one_sqlite_schema(tmp_path: Path) -> None:
    for number in range(20):
        url = f"sqlite://{tmp_path}/{number}.db?timeout=20"
        await opened_at_once(lambda url=url: open_store(url))  # type: ignore[misc]


@pytest.mark.parametrize("known", range(1, len(POSTGRESQL)))
async def test_every_older_postgresql_schema_is_brought_up_to_date(empty: Database, known: int) -> None:
    empty.execute("CREATE TABLE onceserve_migration (number integer PRIMARY KEY, needs integer NOT NULL)")
    for step in POSTGRESQL[:known]:
        empty.execute(step.sql)
        empty.execute(f"INSERT INTO onceserve_migration VALUES ({step.number}, {step.needs})")
    store = open_store(empty.url)
    await store.open()
    await works(store)
    await store.close()


SERVES = "SELECT, INSERT, UPDATE, DELETE ON onceserve_record, onceserve_ledger, onceserve_migration"


def role(database: Database, rights: str = "") -> str:
    """Make a role with rights to this database; return its URL."""
    name = f"role_{ident().hex()}"
    database.execute(f"CREATE ROLE {name} LOGIN" + (f"; GRANT {rights} TO {name}" if rights else ""))
    return f"{database.url.replace('onceserve@', f'{name}@')}?timeout=20"


async def test_a_role_that_may_make_no_tables_is_refused_in_words(empty: Database) -> None:
    with pytest.raises(InvalidSettingsError, match=r"permission denied for schema public; a role that owns the tables"):
        await open_store(role(empty)).open()


async def test_who_owns_no_tables_serves_while_none_is_to_be_changed(empty: Database) -> None:
    owner = open_store(empty.url)
    await owner.open()
    await owner.close()
    url = role(empty, SERVES)
    store = open_store(url)
    await works(store)
    await store.sweep()
    await store.close()
    empty.execute("DELETE FROM onceserve_migration WHERE number = 2; DROP TABLE onceserve_ledger")
    with pytest.raises(
        InvalidSettingsError, match=r"permission denied for .*; a role that owns the tables onceserve_…"
    ):
        await open_store(url).open()


async def test_another_program_s_table_is_left_alone(empty: Database) -> None:
    empty.execute("CREATE TABLE onceserve_record (id integer)")
    with pytest.raises(InvalidSettingsError, match=r'relation "onceserve_record" already exists'):
        await open_store(f"{empty.url}?timeout=20").open()


async def test_a_newer_postgresql_schema_is_shared_unless_it_says_otherwise(empty: Database) -> None:
    store = open_store(empty.url)
    await store.open()
    empty.execute("INSERT INTO onceserve_migration VALUES (90, 1); ALTER TABLE onceserve_record ADD COLUMN more text")
    await works(store)
    await store.close()
    empty.execute("INSERT INTO onceserve_migration VALUES (91, 91)")
    known = f"needs a server that knows migration 91; this one knows {len(POSTGRESQL)}"
    with pytest.raises(InvalidSettingsError, match=known):
        await open_store(empty.url).open()


async def test_a_newer_sqlite_schema_is_shared_unless_it_says_otherwise(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/store.db"
    store = open_store(url)
    await store.open()
    with sqlite3.connect(tmp_path / "store.db") as other:
        other.execute("INSERT INTO migration VALUES (90, 1)")
        other.execute("ALTER TABLE record ADD COLUMN more TEXT")
    await works(store)
    await store.close()
    with other:
        other.execute("INSERT INTO migration VALUES (91, 91)")
    other.close()
    with pytest.raises(InvalidSettingsError, match="needs a server that knows migration 91; this one knows 1"):
        await open_store(url).open()


async def test_an_answer_of_an_unknown_format_is_never_guessed_at(empty: Database, tmp_path: Path) -> None:
    first = claim()
    for url in (empty.url, f"sqlite://{tmp_path}/store.db"):
        store = open_store(url)
        await store.open()
        await store.claim(first)
        await store.complete(completion(first))
        if url == empty.url:
            empty.execute("UPDATE onceserve_record SET answer = '\\x0201'")
        else:
            with sqlite3.connect(tmp_path / "store.db") as other:
                other.execute("UPDATE record SET answer = x'0201'")
            other.close()
        with pytest.raises(UnreadableRecordError, match="an answer of format 02"):
            await store.claim(again(first))
        with pytest.raises(UnreadableRecordError, match="an answer of format 02"):
            await store.complete(completion(first._replace(claim_id=ident())))
        await store.close()


async def test_a_state_that_is_unknown_is_never_guessed_at(empty: Database) -> None:
    store = open_store(empty.url)
    await store.open()
    first = claim()
    await store.claim(first)
    empty.execute("UPDATE onceserve_record SET state = 7")
    with pytest.raises(UnreadableRecordError, match="unknown state 7"):
        await store.claim(again(first))
    await store.close()


async def test_a_redis_record_of_a_newer_release_is_never_guessed_at() -> None:
    first = claim()
    with Redis() as server:
        store = open_store(f"{server.url}?timeout=20")
        await store.claim(first)
        await store.complete(completion(first))
        server.ask(f"HSET onceserve:{first.record.hex()} version 2")
        for call in (store.claim(again(first)), store.complete(completion(first)), store.read(first.record)):
            with pytest.raises(UnreadableRecordError, match="a record of format '2'; this release knows only 1"):
                await call
        assert not await store.renew(first.record, first.claim_id, 100)
        assert not await store.release(first.record, first.claim_id)
        await store.close()


async def test_a_redis_that_forgot_the_scripts_is_given_them_again() -> None:
    with Redis() as server:
        store = open_store(f"{server.url}?timeout=20")
        await works(store)
        server.ask("SCRIPT FLUSH")
        await asyncio.gather(*(works(store) for _ in range(5)))
        await store.close()
