"""The protocol as pure functions, for stores that have no atomic step of their own. Times are in milliseconds."""

from typing import NamedTuple

from onceserve_serving.idempotency.record import Fingerprint, decode
from onceserve_serving.idempotency.store import (
    Busy,
    Claim,
    Claimed,
    Committed,
    Completed,
    Done,
    Lost,
    LostDone,
    Mismatch,
    New,
    Owned,
    Snapshot,
    State,
    Takeover,
    granted,
    milliseconds,
)


class Record(NamedTuple):
    """One key's record; `expires` ends its retention."""

    fingerprint: bytes
    claim_id: bytes
    state: int
    fence: int
    attempt: int
    lease_until: int
    expires: int
    answer: bytes | None = None


def claim(record: Record | None, asked: Claim, now: int) -> tuple[Record | None, Claimed]:
    """Return the record to write, if any, and what to tell."""
    if record is None:
        return _grant(New, asked, fence=now, attempt=1, now=now)
    if not Fingerprint.parse(record.fingerprint).is_of(asked.fingerprint):
        return None, Mismatch()
    if record.state == State.COMPLETED:
        return None, Done(decode(record.answer or b""))
    if _holds(record, asked.claim_id):
        return _grant(Owned, asked, record.fence, record.attempt, now)
    if record.state == State.RUNNING and record.lease_until > now:
        return None, Busy((record.lease_until - now) / 1000)
    return _grant(Takeover, asked, max(record.fence + 1, now), record.attempt + 1, now)


def _grant(
    kind: type[New | Owned | Takeover], asked: Claim, fence: int, attempt: int, now: int
) -> tuple[Record, Claimed]:
    record = Record(
        fingerprint=asked.fingerprint.packed,
        claim_id=asked.claim_id,
        state=State.RUNNING,
        fence=fence,
        attempt=attempt,
        lease_until=now + milliseconds(asked.lease),
        expires=now + milliseconds(asked.retention),
    )
    return record, granted(kind, fence, attempt, asked.max_attempts)


def complete(
    record: Record | None, claim_id: bytes, answer: bytes, retention: float, now: int
) -> tuple[Record | None, Completed]:
    """Return the record to write, if any, and what to tell."""
    if record is None or (record.state != State.COMPLETED and not _holds(record, claim_id)):
        return None, Lost()
    if record.state == State.COMPLETED:
        return None, Committed() if record.claim_id == claim_id else LostDone(decode(record.answer or b""))
    expires = now + milliseconds(retention)
    return record._replace(state=State.COMPLETED, expires=expires, answer=answer), Committed()


def release(record: Record | None, claim_id: bytes, _now: int) -> tuple[Record | None, bool]:
    """Return the record to write, if any, and whether the claim was held."""
    if record is None or not _holds(record, claim_id):
        return None, False
    return record._replace(state=State.RELEASED, attempt=record.attempt - 1), True


def renew(record: Record | None, claim_id: bytes, lease: float, now: int) -> tuple[Record | None, bool]:
    """Return the record to write, if any, and whether the claim is held."""
    if record is None or not _holds(record, claim_id):
        return None, False
    lease_until = now + milliseconds(lease)
    return record._replace(lease_until=lease_until, expires=max(record.expires, lease_until)), True


def read(record: Record | None, now: int) -> tuple[None, Snapshot | None]:
    """Return nothing to write, and the record as it is."""
    if record is None:
        return None, None
    running = record.state == State.RUNNING
    remaining = max(record.lease_until - now, 0) / 1000 if running else 0.0
    answer = None if record.answer is None else decode(record.answer)
    fingerprint = Fingerprint.parse(record.fingerprint)
    state = State(record.state)
    return None, Snapshot(fingerprint, state, record.claim_id, record.fence, record.attempt, remaining, answer)


def _holds(record: Record, claim_id: bytes) -> bool:
    return record.state == State.RUNNING and record.claim_id == claim_id
