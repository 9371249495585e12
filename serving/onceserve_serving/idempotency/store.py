"""What every store of idempotency does. Deadlines are by the store's clock; safety depends on no clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, Protocol, TypeAlias

from onceserve_serving.errors import OnceServeError
from onceserve_serving.idempotency.ledger import LedgerRow
from onceserve_serving.idempotency.record import Answer, Fingerprint, encode


class StoreUnavailableError(OnceServeError):
    """The store did not take the call: certainly nothing was written."""


class UnknownOutcomeError(OnceServeError):
    """The store may or may not have written: repeat the call with the same claim id to learn which."""


class State(IntEnum):
    """Where a record is; one whose retention has ended does not exist."""

    RUNNING = 0
    COMPLETED = 1
    RELEASED = 2


class Claim(NamedTuple):
    """Asks for the right to answer a request.

    record: SHA-256 of the scope and the key, 32 bytes. claim_id: 16 bytes, new for each request that arrives.
    lease, retention: seconds. Beyond max_attempts the request must not be run again.
    """

    record: bytes
    fingerprint: Fingerprint
    claim_id: bytes
    lease: float
    retention: float
    max_attempts: int = 3


@dataclass(frozen=True, slots=True)
class New:
    """Granted: nobody has asked before."""

    fence: int
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Owned:
    """Granted before, to this very claim id: the call was repeated."""

    fence: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Takeover:
    """Granted: who had it has released it, or its lease is over."""

    fence: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Poisoned:
    """Granted, but not to be run: the attempts before this one are all that are allowed. Complete it with an error."""

    fence: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Done:
    """It has been answered."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class Busy:
    """Somebody else has it, for so many seconds if the lease is not renewed."""

    remaining: float


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Another request has this key."""


Claimed: TypeAlias = New | Owned | Takeover | Poisoned | Done | Busy | Mismatch


class Completion(NamedTuple):
    """Stores the answer of who has the claim; retention in seconds from now."""

    record: bytes
    claim_id: bytes
    answer: Answer
    retention: float
    ledger: LedgerRow | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """The answer is stored, now or by this call's first try."""


@dataclass(frozen=True, slots=True)
class LostDone:
    """Another's answer is stored: it is the answer to give."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class Lost:
    """The claim is another's now, or was released, or its retention has ended: nothing was stored."""


Completed: TypeAlias = Committed | LostDone | Lost


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A record as it is; remaining: seconds of the lease, none once it is over."""

    fingerprint: Fingerprint
    state: State
    claim_id: bytes
    fence: int
    attempt: int
    remaining: float
    answer: Answer | None


class Store(Protocol):
    """Keeps one record per key. It belongs to the event loop that opened it.

    Every call ends within a few times the store's timeout, and may raise StoreUnavailableError (nothing was written),
    UnknownOutcomeError (perhaps it was) or UnreadableRecordError. A call that is repeated with the same claim id
    changes nothing and tells the same, so repeating `complete` is how to find out what became of it.
    """

    async def open(self) -> Sequence[str]:
        """Connect, check the store's settings and bring its schema up to date; return warnings for the log.

        Raises InvalidSettingsError if this store would not keep what it acknowledges, and StoreUnavailableError if it
        cannot be reached; then later calls try again, checks included.
        """

    async def claim(self, claim: Claim) -> Claimed:
        """Grant the right to answer to one alone, or tell how things stand."""

    async def complete(self, completion: Completion) -> Completed:
        """Store the answer if the claim is still held; with it, where there is a ledger, its row."""

    async def release(self, record: bytes, claim_id: bytes) -> bool:
        """Give a claim back whose request was not run; return whether it was held. The attempt does not count."""

    async def renew(self, record: bytes, claim_id: bytes, lease: float) -> bool:
        """Make the lease last so many seconds from now; return whether the claim is still held."""

    async def read(self, record: bytes) -> Snapshot | None:
        """Return the record as it is."""

    async def sweep(self) -> int:
        """Delete the records whose retention has ended, in small steps that let traffic through; return how many."""

    def twin(self) -> "Store":
        """Return an unopened store of the same records, for the event loop of another thread."""

    async def close(self) -> None:
        """Let what has begun end, refuse what waits, and disconnect."""


def granted(kind: type[New | Owned | Takeover], fence: int, attempt: int, max_attempts: int) -> Claimed:
    """Return the grant, or that the request has been tried too often."""
    return Poisoned(fence, attempt) if attempt > max_attempts else kind(fence, attempt)


def milliseconds(seconds: float) -> int:
    """Return whole milliseconds, at least one."""
    return max(round(seconds * 1000), 1)


def without_ledger(completion: Completion) -> bytes:
    """Return the encoded answer; raises TypeError if there is a row for a ledger that this store does not have."""
    if completion.ledger is not None:
        raise TypeError("a row of the ledger was given to a store without one")
    return encode(completion.answer)
