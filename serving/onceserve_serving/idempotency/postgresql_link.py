"""Connections to PostgreSQL: to servers that keep what they acknowledge, with the schema as it is to be."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib import resources
from typing import Any, ClassVar, Final, TypeAlias, TypeVar
from urllib.parse import urlsplit

import asyncpg

from onceserve_serving.errors import InvalidSettingsError
from onceserve_serving.idempotency import migrations
from onceserve_serving.idempotency.link import Link
from onceserve_serving.idempotency.migrations import Migration
from onceserve_serving.idempotency.store import StoreUnavailableError

OLDEST: Final = 14
MIGRATIONS: Final = migrations.load("postgresql")

CHECK: Final = """
SELECT
  current_setting('server_version_num')::int / 10000 AS version,
  current_setting('fsync') AS fsync,
  current_setting('full_page_writes') AS full_page_writes,
  current_setting('synchronous_commit') AS synchronous_commit,
  current_setting('synchronous_standby_names') AS standbys,
  current_setting('transaction_read_only') AS read_only,
  pg_backend_pid() AS pid,
  to_regclass('onceserve_migration') IS NOT NULL AS known
"""
APPLIED: Final = "SELECT number, needs FROM onceserve_migration"
APPLY: Final = "INSERT INTO onceserve_migration (number, needs) VALUES ($1, $2)"
FIRST_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS onceserve_migration (number integer PRIMARY KEY, needs integer NOT NULL)"
)
ONE_AT_A_TIME: Final = "SELECT pg_advisory_xact_lock(hashtextextended('onceserve_migration', 0))"
"""Not a lock of the table, which is not there at first: IF NOT EXISTS does not keep two from making it at once."""
READ: Final = "SELECT id FROM onceserve_ledger LIMIT 0"
AT_ONCE: Final = "SET LOCAL lock_timeout = '100ms'"

SESSION: Final = """
SET {scope} enable_seqscan = off; SET {scope} enable_hashjoin = off; SET {scope} enable_mergejoin = off;
SET {scope} jit = off; SET {scope} idle_in_transaction_session_timeout = '10s'
"""
"""A plan that was made while the table was empty must still be right when it is large; and a server that is paused
between two words of a transaction must not hold its locks for ever."""

R = TypeVar("R")
Row: TypeAlias = Any
"""What the server returns, by index or by name; the library publishes no types."""


def sql(name: str) -> str:
    """Return the statement of this name."""
    return (resources.files(__package__) / "sql" / f"{name}.sql").read_text()


class Session:
    """A connection; `pooled` if a pooler is between, which may give each transaction another session of the server."""

    def __init__(self, connection: asyncpg.Connection, *, pooled: bool) -> None:
        self.connection = connection
        self._pooled = pooled
        self._statements: dict[str, Any] = {}

    async def fetch(self, sql: str, *parameters: object) -> Sequence[Row]:
        """Return the rows of one statement, which is a transaction."""
        if self._pooled:
            return await self._fetch_pooled(sql, parameters)
        statement = self._statements.get(sql)
        if statement is None:
            statement = self._statements[sql] = await self.connection.prepare(sql)
        rows: Sequence[Row] = await statement.fetch(*parameters)
        return rows

    async def attempt(self, sql: str) -> None:
        """Perform a statement, or leave it for now if its locks cannot be had at once.

        Whoever wants one of them meanwhile has to wait as long as it does, which is a tenth of a second.
        """
        with suppress(asyncpg.LockNotAvailableError):
            async with self.connection.transaction():
                await self.connection.execute(f"{AT_ONCE}; {sql}")

    async def _fetch_pooled(self, sql: str, parameters: Sequence[object]) -> Sequence[Row]:
        async with self.connection.transaction():
            await self.connection.execute(SESSION.format(scope="LOCAL"))
            rows: Sequence[Row] = await self.connection.fetch(sql, *parameters)
        return rows


class Database(Link[Session]):
    """The database, over one connection."""

    lost: ClassVar[tuple[type[Exception], ...]] = (
        OSError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
        asyncpg.PostgresConnectionError,
        asyncpg.OperatorInterventionError,
    )
    expected: ClassVar[str] = "a role that owns the tables onceserve_…, or may make them in its schema, was expected"
    """What to do about a missing right."""

    def __init__(self, url: str, timeout: float) -> None:
        parts = urlsplit(url)
        super().__init__(f"the store postgresql {parts.hostname or ''}:{parts.port or 5432}{parts.path}", timeout)
        self.warnings: Sequence[str] = ()
        self._url = url
        self._demoted = False

    async def connect(self) -> Session:
        """Return a session of a server that keeps what it acknowledges, its schema up to date."""
        try:
            connection = await asyncpg.connect(self._url, timeout=self.timeout, statement_cache_size=0)
        except (ValueError, asyncpg.ClientConfigurationError):
            raise InvalidSettingsError(f"{self.name}: its URL is not one of PostgreSQL") from None
        except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
            raise InvalidSettingsError(f"{self.name}: {error}") from None
        except asyncpg.PostgresError as error:
            raise StoreUnavailableError(f"{self.name}: {error}") from error
        try:
            with self._in_words():
                return await self._prepared(connection)
        except BaseException:
            connection.terminate()
            raise

    async def is_alive(self, connection: Session) -> bool:
        """Tell whether nobody has closed it, and the server still takes writes."""
        return not connection.connection.is_closed() and not self._demoted

    async def drop(self, connection: Session) -> None:
        """Cut it."""
        connection.connection.terminate()

    async def run(self, perform: Callable[[Session, Any], Awaitable[R]], given: object) -> R:
        """Return what `perform` does with what is given."""
        return await self.use(partial(self._perform, perform, given))

    async def _perform(self, perform: Callable[[Session, Any], Awaitable[R]], given: object, session: Session) -> R:
        while True:
            try:
                return await perform(session, given)
            except self.lost:
                raise
            except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
                continue
            except asyncpg.PostgresError as error:
                self._demoted = isinstance(error, asyncpg.ReadOnlySQLTransactionError)
                raise StoreUnavailableError(f"{self.name}: {error}; nothing was written") from error

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        """Tell of what the server refuses to do for this role, and of what it cannot do now."""
        try:
            yield
        except self.lost:
            raise
        except asyncpg.SyntaxOrAccessError as error:
            raise InvalidSettingsError(f"{self.name}: {error}; {self.expected}") from error
        except asyncpg.PostgresError as error:
            raise StoreUnavailableError(f"{self.name}: {error}") from error

    async def _prepared(self, connection: asyncpg.Connection) -> Session:
        facts = await _facts(connection)
        self.warnings = [f"{self.name}: {warning}" for warning in _check(facts, self.name)]
        session = await _session(connection, facts)
        if await _missing(session, facts, self.name):
            await _migrate(connection, self.name)
        self._demoted = False
        return session


class LedgerDatabase(Database):
    """The same for those who only read the ledger, whatever the server's settings and the state of its schema."""

    expected: ClassVar[str] = (
        "the database of a server's store, and a role with SELECT on onceserve_ledger and onceserve_migration, "
        "were expected"
    )

    async def _prepared(self, connection: asyncpg.Connection) -> Session:
        facts = await _facts(connection)
        session = await _session(connection, facts)
        await _missing(session, facts, self.name)
        await session.fetch(READ)
        return session


async def _facts(connection: asyncpg.Connection) -> Row:
    async with connection.transaction():
        return await connection.fetchrow(CHECK)


async def _session(connection: asyncpg.Connection, facts: Row) -> Session:
    pooled = facts["pid"] != connection.get_server_pid()
    if not pooled:
        await connection.execute(SESSION.format(scope="SESSION"))
    return Session(connection, pooled=pooled)


async def _missing(session: Session, facts: Row, name: str) -> Sequence[Migration]:
    """Return the steps that the schema does not have; raises InvalidSettingsError if it is too new."""
    applied = await session.fetch(APPLIED) if facts["known"] else ()
    return migrations.missing(MIGRATIONS, [tuple(row) for row in applied], name)


def _check(facts: Row, name: str) -> Sequence[str]:
    if facts["version"] < OLDEST:
        raise InvalidSettingsError(f"{name}: it is version {facts['version']}; {OLDEST} or later was expected")
    if facts["read_only"] != "off":
        raise InvalidSettingsError(f"{name}: it takes no writes, as a standby does not; the primary was expected")
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        if facts[setting] == "off":
            raise InvalidSettingsError(f"{name}: {setting} is off: a crash forgets answers; on was expected")
    if facts["standbys"] and facts["synchronous_commit"] == "local":
        return ["synchronous_commit is local: a failover to the synchronous standby may forget the latest answers"]
    return ()


async def _migrate(connection: asyncpg.Connection, name: str) -> None:
    """Apply what is missing; of servers that start at once, one does it and the others wait for it."""
    async with connection.transaction(isolation="read_committed"):
        await connection.execute(ONE_AT_A_TIME)
        await connection.execute(FIRST_TABLE)
        applied = [tuple(row) for row in await connection.fetch(APPLIED)]
        for step in migrations.missing(MIGRATIONS, applied, name):
            await connection.execute(step.sql)
            await connection.execute(APPLY, step.number, step.needs)
