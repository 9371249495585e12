"""A store in one file on a local disk, for the processes of one machine."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from onceserve_serving.engine.thread import InferenceThread
from onceserve_serving.errors import InvalidSettingsError
from onceserve_serving.idempotency import migrations, mounts, transitions
from onceserve_serving.idempotency.grouping import LIMIT, Groups
from onceserve_serving.idempotency.link import TIMEOUT, Link
from onceserve_serving.idempotency.record import UnreadableRecordError
from onceserve_serving.idempotency.store import (
    Claim,
    Claimed,
    Completed,
    Completion,
    Snapshot,
    Store,
    StoreUnavailableError,
    UnknownOutcomeError,
    without_ledger,
)
from onceserve_serving.idempotency.transitions import Record

APPLICATION: Final = 0x0CE5E12E
"""Marks a file as ours, so that no other program's database is written to."""

MIGRATIONS: Final = migrations.load("sqlite")

LOCK_SHARE: Final = 0.75
"""Of the timeout, how much is spent on waiting for another process's lock: who gives up there has not written."""

CHUNK: Final = 500
"""Records that one transaction of the sweep looks at."""

CHECKPOINT: Final = 4000
"""Pages of the log after which they go to the file; the more, the more often a page that is hot goes only once."""

IDS: Final = "SELECT ifnull(min(id), 0), ifnull(max(id), -1) FROM record"
SWEEP: Final = "DELETE FROM record WHERE id BETWEEN ? AND ? AND expires <= ?"

FIELDS: Final = ", ".join(Record._fields)
OVERWRITE: Final = (
    f"ON CONFLICT (hash) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in Record._fields)}"
)
COLUMNS: Final = len(Record._fields) + 1

R = TypeVar("R")
Transition: TypeAlias = Callable[[Record | None, int], tuple[Record | None, Any]]


class Change(NamedTuple):
    """What is to become of one record."""

    key: bytes
    transition: Transition


class File(Link[sqlite3.Connection]):
    """The file, through a thread of its own."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__(f"the store sqlite {path}", timeout)
        self._path = path
        self._worker = InferenceThread("sqlite")
        self._left: list[sqlite3.Connection] = []

    async def connect(self) -> sqlite3.Connection:
        """Open the file, once the thread is free."""
        return await self._worker.call(self._open)

    async def is_alive(self, connection: sqlite3.Connection) -> bool:  # noqa: ARG002  a file does not hang up
        """Return that it is."""
        return True

    async def drop(self, connection: sqlite3.Connection) -> None:
        """Have the thread close it before it does anything else."""
        self._left.append(connection)

    async def close(self) -> None:
        """Close the file and end the thread."""
        await super().close()
        # A thread that is stuck in a disk ends with the process.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._worker.call(self._close_left), self.timeout)
        self._worker.close()

    async def run(self, function: Callable[[sqlite3.Connection], R]) -> R:
        """Return what the function, which must be one transaction, does in the thread."""
        return await self.use(lambda connection: self._worker.call(partial(function, connection)))

    def _open(self) -> sqlite3.Connection:
        self._close_left()
        try:
            return _prepared(self._path, self.timeout * LOCK_SHARE, self.name)
        except sqlite3.Error as error:
            raise StoreUnavailableError(f"{self.name}: {error}") from error

    def _close_left(self) -> None:
        while self._left:
            self._left.pop().close()


class SqliteStore(Store):
    """Keeps records in one table; what waits is committed in one transaction, so that one flush pays for many."""

    def __init__(self, path: Path, timeout: float = TIMEOUT) -> None:
        self._path = path
        self._file = File(path, timeout)
        self._groups = Groups(self._perform, timeout)

    async def open(self) -> Sequence[str]:
        """Check the place of the file, make it, and set it to survive a power cut."""
        warnings = mounts.check(self._path)
        await self._file.open()
        return warnings

    async def claim(self, claim: Claim) -> Claimed:
        """Grant the right to answer to one alone, or tell how things stand."""
        change = Change(claim.record, lambda record, now: transitions.claim(record, claim, now))
        claimed: Claimed = await self._groups.ask(claim.record, change)
        return claimed

    async def complete(self, completion: Completion) -> Completed:
        """Store the answer if the claim is still held."""
        record, claim_id, _, retention, _ = completion
        blob = without_ledger(completion)
        change = Change(record, lambda old, now: transitions.complete(old, claim_id, blob, retention, now))
        completed: Completed = await self._groups.ask(record, change, len(blob))
        return completed

    async def release(self, record: bytes, claim_id: bytes) -> bool:
        """Give a claim back whose request was not run."""
        change = Change(record, lambda old, now: transitions.release(old, claim_id, now))
        held: bool = await self._groups.ask(record, change)
        return held

    async def renew(self, record: bytes, claim_id: bytes, lease: float) -> bool:
        """Make the lease last so many seconds from now."""
        change = Change(record, lambda old, now: transitions.renew(old, claim_id, lease, now))
        held: bool = await self._groups.ask(record, change)
        return held

    async def read(self, record: bytes) -> Snapshot | None:
        """Return the record as it is."""
        snapshot: Snapshot | None = await self._groups.ask(record, Change(record, transitions.read))
        return snapshot

    async def sweep(self) -> int:
        """Delete the records whose retention has ended, a few in each transaction."""
        first, last = await self._file.run(lambda connection: connection.execute(IDS).fetchone())
        chunks = range(first, last + 1, CHUNK)
        return sum([await self._file.run(partial(_sweep, at)) for at in chunks])

    def twin(self) -> "SqliteStore":
        """Return an unopened store of the same file."""
        return SqliteStore(self._path, self._file.timeout)

    async def close(self) -> None:
        """Let what has begun end, refuse what waits, and close the file."""
        await self._groups.close()
        await self._file.close()

    async def _perform(self, changes: Sequence[Change]) -> Sequence[Any]:
        return await self._file.run(lambda connection: _transact(connection, changes))


def _prepared(path: Path, patience: float, name: str) -> sqlite3.Connection:
    path.touch(mode=0o600)
    connection = sqlite3.connect(
        path, timeout=patience, isolation_level=None, check_same_thread=False, cached_statements=2 * LIMIT + 32
    )
    try:
        _check_application(connection, name)
        _set_durable(connection, patience, name)
        _migrate(connection, name)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_application(connection: sqlite3.Connection, name: str) -> None:
    try:
        empty = not connection.execute("SELECT 1 FROM sqlite_schema").fetchone()
        # Read after it: a server that starts at the same time writes both at once.
        ours = connection.execute("PRAGMA application_id").fetchone() == (APPLICATION,)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        raise InvalidSettingsError(f"{name}: this file is no database ({error})") from error
    if not ours and not empty:
        raise InvalidSettingsError(f"{name}: this file is another program's database")


def _migrate(connection: sqlite3.Connection, name: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute("CREATE TABLE IF NOT EXISTS migration (number INTEGER PRIMARY KEY, needs INTEGER) STRICT")
        applied = connection.execute("SELECT number, needs FROM migration").fetchall()
        for step in migrations.missing(MIGRATIONS, applied, name):
            for statement in step.statements:
                connection.execute(statement)
            connection.execute("INSERT INTO migration VALUES (?, ?)", (step.number, step.needs))
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _set_durable(connection: sqlite3.Connection, patience: float, name: str) -> None:
    mode = _retried(patience, lambda: connection.execute("PRAGMA journal_mode = wal").fetchone()[0])
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT}")
    full = connection.execute("PRAGMA synchronous").fetchone()[0]
    if (mode, full) != ("wal", 2):
        raise InvalidSettingsError(
            f"{name}: it has journal mode {mode} and synchronous {full} where wal and 2 (FULL) were expected"
        )


def _retried(patience: float, function: Callable[[], R]) -> R:
    """Return what the function does; SQLite does not wait by itself while others make the file a WAL one."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return function()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.005)


def _transact(connection: sqlite3.Connection, changes: Sequence[Change]) -> Sequence[Any]:
    return _in_transaction(connection, lambda: _apply(connection, changes))


def _sweep(at: int, connection: sqlite3.Connection) -> int:
    return _in_transaction(connection, lambda: connection.execute(SWEEP, (at, at + CHUNK - 1, _now())).rowcount)


def _in_transaction(connection: sqlite3.Connection, function: Callable[[], R]) -> R:
    try:
        connection.execute("BEGIN IMMEDIATE")
        answer = function()
    except sqlite3.Error as error:
        connection.rollback()
        raise StoreUnavailableError(f"the store sqlite: {error}; nothing was written") from error
    try:
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise UnknownOutcomeError(f"the store sqlite: {error}; whether it was written is not known") from error
    return answer


def _apply(connection: sqlite3.Connection, changes: Sequence[Change]) -> Sequence[Any]:
    now = _now()
    found = connection.execute(_select(len(changes)), [change.key for change in changes]).fetchall()
    records = {row[0]: Record._make(row[1:]) for row in found}
    answers: list[Any] = []
    rows: list[object] = []
    for key, transition in changes:
        record = records.get(key)
        changed, answer = _decide(transition, record if record and record.expires > now else None, now)
        answers.append(answer)
        if changed is not None:
            rows += (key, *changed)
    if rows:
        connection.execute(_put(len(rows) // COLUMNS), rows)
    return answers


def _decide(transition: Transition, record: Record | None, now: int) -> tuple[Record | None, Any]:
    try:
        return transition(record, now)
    except UnreadableRecordError as error:
        return None, error


# One statement for all: between two the interpreter's lock goes to the event loop, and does not come back at once.
@lru_cache(LIMIT)
def _select(count: int) -> str:
    return f"SELECT hash, {FIELDS} FROM record WHERE hash IN ({', '.join('?' * count)})"  # noqa: S608  no value in it


@lru_cache(LIMIT)
def _put(count: int) -> str:
    row = f"({', '.join('?' * COLUMNS)})"
    return f"INSERT INTO record (hash, {FIELDS}) VALUES {', '.join([row] * count)} {OVERWRITE}"  # noqa: S608  as above


def _now() -> int:
    return time.time_ns() // 1_000_000
