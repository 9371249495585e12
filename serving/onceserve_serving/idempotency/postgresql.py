"""A store in PostgreSQL, for any number of servers, with a ledger; behind a pooler too, in whatever mode."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeVar

from onceserve_serving.idempotency.grouping import Groups
from onceserve_serving.idempotency.postgresql_link import Database, Row, Session, sql
from onceserve_serving.idempotency.record import Fingerprint, UnreadableRecordError, decode, encode
from onceserve_serving.idempotency.store import (
    Busy,
    Claim,
    Claimed,
    Committed,
    Completed,
    Completion,
    Done,
    Lost,
    LostDone,
    Mismatch,
    New,
    Owned,
    Snapshot,
    State,
    Store,
    Takeover,
    granted,
    milliseconds,
)

GRANTS: Final = (New, Owned, Takeover)
PAGES: Final = 256
"""Pages of 8 KiB that one transaction of the sweep reads."""

T = TypeVar("T")


CLAIM, HELD, COMPLETE, COMPLETE_WITH_LEDGER, RELEASE, RENEW, SWEEP, UNSUMMARISED = map(
    sql, ("claim", "held", "complete", "complete_with_ledger", "release", "renew", "sweep", "unsummarised")
)

SETTLED: Final = f"{HELD.rstrip()} ORDER BY hash FOR NO KEY UPDATE"
"""HELD, of rows that somebody else may just have completed. A lock is written as a change is, so that its commit waits
for a synchronous standby: a completion that is seen may not have reached it yet, and be forgotten with its server."""


SUMMARISE: Final = "ALTER INDEX onceserve_ledger_completed SET (autosummarize = on)"


class _Given(NamedTuple):
    """A completion, its answer as it is stored."""

    completion: Completion
    blob: bytes


class PostgresqlStore(Store):
    """Keeps a row per record; what waits goes in one statement. Claims and completions have a connection each."""

    def __init__(self, url: str, timeout: float) -> None:
        self._arguments = (url, timeout)
        self._claiming, self._completing, self._others = (Database(url, timeout) for _ in range(3))
        self._claims = Groups(partial(self._claiming.run, _claim), timeout)
        self._completions = Groups(partial(self._completing.run, _complete), timeout)
        self._releases = Groups(partial(self._others.run, partial(_change, RELEASE)), timeout)
        self._renewals = Groups(partial(self._others.run, partial(_change, RENEW)), timeout)
        self._reads = Groups(partial(self._others.run, _read), timeout)

    async def open(self) -> Sequence[str]:
        """Connect, check that the server keeps what it acknowledges, and bring the schema up to date."""
        await self._claiming.open()
        return self._claiming.warnings

    async def claim(self, claim: Claim) -> Claimed:
        """Grant the right to answer to one alone, or tell how things stand."""
        claimed: Claimed = await self._claims.ask(claim.record, claim)
        return claimed

    async def complete(self, completion: Completion) -> Completed:
        """Store the answer, and its row of the ledger, if the claim is still held."""
        if completion.ledger is not None:
            completion.ledger.check()
        given = _Given(completion, encode(completion.answer))
        completed: Completed = await self._completions.ask(completion.record, given, len(given.blob))
        return completed

    async def release(self, record: bytes, claim_id: bytes) -> bool:
        """Give a claim back whose request was not run."""
        held: bool = await self._releases.ask(record, (record, claim_id))
        return held

    async def renew(self, record: bytes, claim_id: bytes, lease: float) -> bool:
        """Make the lease last so many seconds from now."""
        held: bool = await self._renewals.ask(record, (record, claim_id, milliseconds(lease)))
        return held

    async def read(self, record: bytes) -> Snapshot | None:
        """Return the record as it is."""
        snapshot: Snapshot | None = await self._reads.ask(record, record)
        return snapshot

    async def sweep(self) -> int:
        """Delete the rows whose retention has ended, a few pages in each transaction; also tune the ledger's index."""
        swept, page, pages = 0, 0, 1
        while page < pages:
            deleted, pages = await self._others.run(_sweep, page)
            swept, page = swept + deleted, page + PAGES
        await self._others.run(_summarise, None)
        return swept

    def twin(self) -> "PostgresqlStore":
        """Return an unopened store of the same records."""
        return PostgresqlStore(*self._arguments)

    async def close(self) -> None:
        """Let what has begun end, refuse what waits, and disconnect."""
        for groups in (self._claims, self._completions, self._releases, self._renewals, self._reads):
            await groups.close()
        for database in (self._claiming, self._completing, self._others):
            await database.close()


async def _claim(session: Session, claims: Sequence[Claim]) -> Sequence[object]:
    waiting = {claim.record: claim for claim in claims}
    answers: dict[bytes, object] = {}
    # A row that could not be had may be free by the time that it is looked at.
    while waiting:
        for hash_, kind, fence, attempt in await session.fetch(CLAIM, *_columns(map(_claim_row, waiting.values()))):
            answers[hash_] = granted(GRANTS[kind], fence, attempt, waiting.pop(hash_).max_attempts)
        for row in await session.fetch(HELD, list(waiting)) if waiting else ():
            if (answer := _told(partial(_look, row, waiting[row["hash"]]))) is not None:
                answers[row["hash"]] = answer
                del waiting[row["hash"]]
    return [answers[claim.record] for claim in claims]


def _claim_row(claim: Claim) -> tuple[object, ...]:
    fingerprint = claim.fingerprint
    lease, retention = milliseconds(claim.lease), milliseconds(claim.retention)
    return claim.record, fingerprint.current, fingerprint.other or None, claim.claim_id, lease, retention


def _look(row: Row, claim: Claim) -> Claimed | None:
    if not Fingerprint(row["fingerprint"], row["other_fingerprint"] or b"").is_of(claim.fingerprint):
        return Mismatch()
    if _state(row) is State.COMPLETED:
        return Done(decode(row["answer"]))
    return Busy(row["remaining"]) if row["state"] == State.RUNNING and row["remaining"] else None


async def _complete(session: Session, given: Sequence[_Given]) -> Sequence[object]:
    if any(one.completion.ledger for one in given):
        rows = await session.fetch(COMPLETE_WITH_LEDGER, *_columns(map(_ledger_row, given)))
    else:
        rows = await session.fetch(COMPLETE, *_columns(map(_completion_row, given)))
    stored = {row["hash"] for row in rows}
    others = [one.completion.record for one in given if one.completion.record not in stored]
    held = {row["hash"]: row for row in await session.fetch(SETTLED, others)} if others else {}
    return [
        Committed() if key in stored else _told(partial(_lost, held.get(key), completion))
        for key, completion in ((one.completion.record, one.completion) for one in given)
    ]


def _completion_row(given: _Given) -> tuple[object, ...]:
    completion = given.completion
    return completion.record, completion.claim_id, given.blob, milliseconds(completion.retention)


def _ledger_row(given: _Given) -> tuple[object, ...]:
    ledger = given.completion.ledger or (None,) * 4
    return *_completion_row(given), given.completion.answer.status, *ledger


def _lost(row: Row | None, completion: Completion) -> Completed:
    if row is None or _state(row) is not State.COMPLETED:
        return Lost()
    return Committed() if row["claim_id"] == completion.claim_id else LostDone(decode(row["answer"]))


async def _change(sql: str, session: Session, rows: Sequence[tuple[object, ...]]) -> Sequence[bool]:
    held = {row["hash"] for row in await session.fetch(sql, *_columns(rows))}
    return [row[0] in held for row in rows]


async def _read(session: Session, records: Sequence[bytes]) -> Sequence[object]:
    rows = {row["hash"]: row for row in await session.fetch(HELD, records)}
    return [_told(partial(_snapshot, rows[record])) if record in rows else None for record in records]


def _snapshot(row: Row) -> Snapshot:
    state = _state(row)
    remaining = row["remaining"] if state is State.RUNNING else 0.0
    answer = None if row["answer"] is None else decode(row["answer"])
    fingerprint = Fingerprint(row["fingerprint"], row["other_fingerprint"] or b"")
    return Snapshot(fingerprint, state, row["claim_id"], row["fence"], row["attempt"], remaining, answer)


async def _sweep(session: Session, page: int) -> tuple[int, int]:
    [row] = await session.fetch(SWEEP, page, page + PAGES)
    return row["deleted"], row["pages"]


async def _summarise(session: Session, _: None) -> None:
    # No migration: it needs a lock for which it may have to wait as long as somebody reads the ledger.
    if await session.fetch(UNSUMMARISED):
        await session.attempt(SUMMARISE)


def _columns(rows: Iterable[tuple[object, ...]]) -> Iterable[tuple[object, ...]]:
    return zip(*rows, strict=True)


def _state(row: Row) -> State:
    try:
        return State(row["state"])
    except ValueError:
        raise UnreadableRecordError(f"the store has a record in the unknown state {row['state']}") from None


def _told(tell: Callable[[], T]) -> T | UnreadableRecordError:
    """Return what is told about one record, which must not be told about the others of its group."""
    try:
        return tell()
    except UnreadableRecordError as error:
        return error
