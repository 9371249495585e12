"""A store for one process and a short time: it forgets when the process ends."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from onceserve_serving.idempotency import transitions
from onceserve_serving.idempotency.store import Claim, Claimed, Completed, Completion, Snapshot, Store, without_ledger
from onceserve_serving.idempotency.transitions import Record

R = TypeVar("R")
SWEEP = 1000
"""Records that are looked at between two breaths."""


class MemoryStore(Store):
    """Keeps records in a dictionary."""

    def __init__(self) -> None:
        self._records: dict[bytes, Record] = {}
        self._lock = threading.Lock()

    async def open(self) -> Sequence[str]:
        """Return that it forgets."""
        return ("the store memory: forgets every answer when this process ends, and no other process knows of them",)

    async def claim(self, claim: Claim) -> Claimed:
        """Grant the right to answer to one alone, or tell how things stand."""
        return self._change(claim.record, lambda record, now: transitions.claim(record, claim, now))

    async def complete(self, completion: Completion) -> Completed:
        """Store the answer if the claim is still held."""
        record, claim_id, _, retention, _ = completion
        blob = without_ledger(completion)
        return self._change(record, lambda old, now: transitions.complete(old, claim_id, blob, retention, now))

    async def release(self, record: bytes, claim_id: bytes) -> bool:
        """Give a claim back whose request was not run."""
        return self._change(record, lambda old, now: transitions.release(old, claim_id, now))

    async def renew(self, record: bytes, claim_id: bytes, lease: float) -> bool:
        """Make the lease last so many seconds from now."""
        return self._change(record, lambda old, now: transitions.renew(old, claim_id, lease, now))

    async def read(self, record: bytes) -> Snapshot | None:
        """Return the record as it is."""
        return self._change(record, transitions.read)

    async def sweep(self) -> int:
        """Delete the records whose retention has ended."""
        swept = 0
        for keys in _chunks(list(self._records)):
            swept += sum(self._forget(key) for key in keys)
            await asyncio.sleep(0)
        return swept

    def twin(self) -> "MemoryStore":
        """Return this store: any thread may call it."""
        return self

    async def close(self) -> None:
        """Do nothing: the records live as long as the store."""

    def _change(self, key: bytes, transition: Callable[[Record | None, int], tuple[Record | None, R]]) -> R:
        with self._lock:
            now = _now()
            record = self._records.get(key)
            changed, answer = transition(record if record and record.expires > now else None, now)
            if changed is not None:
                self._records[key] = changed
        return answer

    def _forget(self, key: bytes) -> bool:
        with self._lock:
            ended = (record := self._records.get(key)) is not None and record.expires <= _now()
            if ended:
                del self._records[key]
        return ended


def _now() -> int:
    return time.monotonic_ns() // 1_000_000


def _chunks(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    return (keys[at : at + SWEEP] for at in range(0, len(keys), SWEEP))
