"""Stores that would not keep what they acknowledge are refused, in words; so are URLs that mean none."""

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from contract.stores.places import claim
from onceserve_serving.errors import InvalidSettingsError
from onceserve_serving.idempotency.store import StoreUnavailableError, UnknownOutcomeError
from onceserve_serving.idempotency.stores import open_store
from support.databases import Postgresql, Redis
from support.waiting import eventually


async def opened(url: str) -> Sequence[str]:
    """Open a store and close it; return its warnings."""
    store = open_store(url)
    try:
        return await store.open()
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--maxmemory-policy", "allkeys-lru"], "maxmemory-policy is allkeys-lru, which forgets answers; noeviction"),
        (["--appendonly", "no"], "appendonly is no: a restart forgets answers; set appendonly yes"),
        (["--cluster-enabled", "yes"], "it is a node of a Redis Cluster; one primary"),
        (["--replicaof", "127.0.0.1", "1"], "it is a replica; the primary was expected"),
    ],
)
async def test_a_redis_that_forgets_is_refused(options: list[str], words: str) -> None:
    with Redis(*options) as server:
        with pytest.raises(InvalidSettingsError, match=words):
            await opened(server.url)
        store = open_store(server.url)
        with pytest.raises(StoreUnavailableError, match=words):
            await store.claim(claim())
        await store.close()


async def test_a_redis_that_flushes_later_is_warned_of() -> None:
    with Redis("--appendfsync", "everysec") as server:
        [warning] = await opened(server.url)
    assert "appendfsync is everysec: a power cut forgets the answers of its last second" in warning


async def test_a_redis_that_hides_its_settings_is_warned_of() -> None:
    with Redis("--rename-command", "CONFIG", "") as server:
        [warning] = await opened(server.url)
    assert "not known whether appendfsync is always" in warning


async def test_a_redis_waits_for_its_replicas_where_asked_to() -> None:
    with (
        Redis("--repl-diskless-sync-delay", "0") as primary,
        # A replica that is still writing its first log refuses to end.
        Redis("--appendonly", "no", "--replicaof", "127.0.0.1", str(primary.port)) as replica,
    ):
        await asyncio.to_thread(eventually, lambda: replica.is_following, "the replica follows")
        [warning] = await opened(primary.url)
        assert "it has replicas that are not waited for" in warning
        assert await opened(f"{primary.url}?replicas=1") == []
        store = open_store(f"{primary.url}?replicas=1&timeout=4")
        first = claim()
        await store.claim(first)
        replica.pause()
        with pytest.raises(UnknownOutcomeError, match="0 replicas acknowledged within 2000 ms where 1 must"):
            await store.claim(claim())
        replica.resume()
        await store.close()


async def test_a_password_is_used_and_never_shown() -> None:
    with Redis("--requirepass", "correct horse") as server:
        assert await opened(f"redis://:correct%20horse@127.0.0.1:{server.port}") == []
        with pytest.raises(InvalidSettingsError) as refused:
            await opened(f"redis://:wrong-secret@127.0.0.1:{server.port}")
    assert "wrong-secret" not in str(refused.value)
    assert "invalid username-password pair" in str(refused.value)


@pytest.fixture(scope="module")
def postgresql(cluster: Postgresql) -> str:
    return cluster.database("settings")


@contextmanager
def set_to(cluster: Postgresql, setting: str, value: str) -> Iterator[None]:
    """Have the server of a database run with a setting."""

    def configure(change: str, expected: str) -> None:
        cluster.execute(f"SET default_transaction_read_only = off; {change}")
        cluster.execute("SELECT pg_reload_conf()")
        eventually(lambda: cluster.execute(f"SHOW {setting}") == expected, f"{setting} is {expected}")

    before = cluster.execute(f"SHOW {setting}")
    configure(f"ALTER SYSTEM SET {setting} = {value}", value)
    try:
        yield
    finally:
        configure(f"ALTER SYSTEM RESET {setting}", before)


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes", "synchronous_commit"])
async def test_a_postgresql_that_does_not_flush_is_refused(cluster: Postgresql, postgresql: str, setting: str) -> None:
    words = f"{setting} is off: a crash forgets answers; on was expected"
    with set_to(cluster, setting, "off"), pytest.raises(InvalidSettingsError, match=words):
        await opened(postgresql)


async def test_a_postgresql_that_takes_no_writes_is_refused(cluster: Postgresql, postgresql: str) -> None:
    cluster.execute("CREATE ROLE reader LOGIN; ALTER ROLE reader SET default_transaction_read_only = on")
    with pytest.raises(InvalidSettingsError, match="it takes no writes, as a standby does not"):
        await opened(postgresql.replace("onceserve@", "reader@"))


async def test_a_postgresql_without_the_database_is_refused(cluster: Postgresql) -> None:
    with pytest.raises(InvalidSettingsError, match='database "nowhere" does not exist'):
        await opened(cluster.url_of("nowhere"))


async def test_a_postgresql_that_becomes_read_only_is_unavailable_until_it_is_not(
    cluster: Postgresql, postgresql: str
) -> None:
    store = open_store(f"{postgresql}?timeout=20")
    await store.open()
    with set_to(cluster, "default_transaction_read_only", "on"):
        with pytest.raises(StoreUnavailableError, match="nothing was written"):
            await store.claim(claim())
        with pytest.raises(StoreUnavailableError, match="it takes no writes"):
            await store.claim(claim())
    await store.claim(claim())
    await store.close()


async def test_nobody_there_is_unavailable_and_shows_no_password() -> None:
    for scheme in ("redis", "postgresql"):
        with pytest.raises(StoreUnavailableError, match="nothing was written") as refused:
            await opened(f"{scheme}://user:hidden-word@127.0.0.1:1/0")
        assert "hidden-word" not in str(refused.value)


async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary, " * 1000)
    with pytest.raises(InvalidSettingsError, match="this file is no database"):
        await opened(f"sqlite://{path}")
    assert path.read_text() == "dear diary, " * 1000


async def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE record (id)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(InvalidSettingsError, match="this file is another program's database"):
        await opened(f"sqlite://{path}")
    assert path.read_bytes() == before


async def test_a_sqlite_store_is_for_its_owner_alone(tmp_path: Path) -> None:
    await opened(f"sqlite://{tmp_path}/store.db")
    assert (tmp_path / "store.db").stat().st_mode & 0o777 == 0o600


async def test_a_sqlite_store_needs_its_directory(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettingsError, match="nowhere is no directory"):
        await opened(f"sqlite://{tmp_path}/nowhere/store.db")
    with pytest.raises(InvalidSettingsError, match="this is a directory; a file was expected"):
        await opened(f"sqlite://{tmp_path}")


async def test_memory_warns_that_it_forgets() -> None:
    [warning] = await opened("memory:")
    assert "forgets every answer when this process ends" in warning
