"""A store in Redis or Valkey, for any number of servers: each call is one script on one hash."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from onceserve_serving.idempotency.grouping import Groups
from onceserve_serving.idempotency.record import Fingerprint, UnreadableRecordError, decode
from onceserve_serving.idempotency.redis_link import Call, Script, Server
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
    without_ledger,
)

PREFIX: Final = "onceserve:"
GRANTS: Final[Mapping[bytes, type[New | Owned | Takeover]]] = {b"NEW": New, b"OWNED": Owned, b"TAKEOVER": Takeover}
CLAIM, COMPLETE, RELEASE, RENEW, READ = map(Script.named, ("claim", "complete", "release", "renew", "read"))


class RedisStore(Store):
    """Keeps a hash per record, which Redis deletes at the end of its retention; what waits goes in one write."""

    def __init__(self, url: str, timeout: float, replicas: int = 0) -> None:
        self._arguments = (url, timeout, replicas)
        self._server = Server(*self._arguments)
        self._groups = Groups(self._server.run, timeout)
        self._safely = int(replicas > 0)

    async def open(self) -> Sequence[str]:
        """Connect and check that the server keeps what it acknowledges."""
        await self._server.open()
        return self._server.warnings

    async def claim(self, claim: Claim) -> Claimed:
        """Grant the right to answer to one alone, or tell how things stand."""
        lease, retention = milliseconds(claim.lease), milliseconds(claim.retention)
        reply = await self._ask(
            CLAIM, claim.record, claim.fingerprint.packed, claim.claim_id, lease, retention, self._safely
        )
        if (kind := GRANTS.get(reply[0])) is not None:
            return granted(kind, reply[1], reply[2], claim.max_attempts)
        if reply[0] == b"BUSY":
            return Busy(reply[1] / 1000)
        if reply[0] == b"DONE":
            return Done(decode(reply[1]))
        return _mismatch(reply[1], claim.fingerprint)

    async def complete(self, completion: Completion) -> Completed:
        """Store the answer if the claim is still held."""
        record, claim_id, _, retention, _ = completion
        blob = without_ledger(completion)
        reply = await self._ask(COMPLETE, record, claim_id, blob, milliseconds(retention), self._safely, size=len(blob))
        if reply[0] == b"COMMITTED":
            return Committed()
        return LostDone(decode(reply[1])) if reply[0] == b"LOST_DONE" else Lost()

    async def release(self, record: bytes, claim_id: bytes) -> bool:
        """Give a claim back whose request was not run."""
        return bool(await self._ask(RELEASE, record, claim_id))

    async def renew(self, record: bytes, claim_id: bytes, lease: float) -> bool:
        """Make the lease last so many seconds from now."""
        return bool(await self._ask(RENEW, record, claim_id, milliseconds(lease)))

    async def read(self, record: bytes) -> Snapshot | None:
        """Return the record as it is."""
        reply = await self._ask(READ, record)
        if reply is None:
            return None
        fingerprint, state, claim_id, fence, attempt, remaining, answer = reply
        return Snapshot(
            Fingerprint.parse(fingerprint),
            State[state.decode()],
            claim_id,
            fence,
            attempt,
            remaining / 1000 if state == b"RUNNING" else 0.0,
            None if answer is None else decode(answer),
        )

    async def sweep(self) -> int:
        """Do nothing: Redis deletes by itself."""
        return 0

    def twin(self) -> "RedisStore":
        """Return an unopened store of the same records."""
        return RedisStore(*self._arguments)

    async def close(self) -> None:
        """Let what has begun end, refuse what waits, and disconnect."""
        await self._groups.close()
        await self._server.close()

    async def _ask(self, script: Script, record: bytes, *arguments: bytes | str | int, size: int = 0) -> Any:  # noqa: ANN401  as replies are
        reply = await self._groups.ask(record, Call(script, PREFIX + record.hex(), arguments), size)
        if isinstance(reply, list) and reply[0] == b"VERSION":
            raise UnreadableRecordError(
                f"the store has a record of format {reply[1].decode(errors='replace')!r}; this release knows only 1"
            )
        return reply


def _mismatch(stored: bytes, given: Fingerprint) -> Mismatch:
    """Return that it is another request, unless there is no telling."""
    Fingerprint.parse(stored).is_of(given)
    return Mismatch()
