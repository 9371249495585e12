"""One answer for each key: claim, run, complete, then respond.

What is promised, and what breaks it, was checked with a model (docs/formal.md); the order of the steps here is the
model's. Nothing is answered that the store has not acknowledged, and no claim is run twice.
"""

import hashlib
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple, TypeAlias

from onceserve_serving.admission import Admission, Capacity, Room
from onceserve_serving.errors import (
    AnswerNotKeptError,
    DeadlineExceededError,
    InProgressError,
    KeyMismatchError,
    NotReadyError,
    PoisonedError,
    StoreFailedError,
)
from onceserve_serving.idempotency.calls import Calls, failed
from onceserve_serving.idempotency.confirming import Confirming, UnconfirmedError
from onceserve_serving.idempotency.ledger import LedgerRow
from onceserve_serving.idempotency.record import Answer, Fingerprint, Outcome, Tombstone, UnreadableRecordError
from onceserve_serving.idempotency.renewal import Renewal
from onceserve_serving.idempotency.seats import Seat, Seats
from onceserve_serving.idempotency.store import (
    Busy,
    Claim,
    Claimed,
    Committed,
    Completion,
    Done,
    Mismatch,
    New,
    Owned,
    Poisoned,
    Store,
    StoreUnavailableError,
    Takeover,
)
from onceserve_serving.telemetry import Telemetry

log = logging.getLogger(__name__)

KEPT_BYTES: Final = 2**20
"""Bytes of a body that are kept for replays; of a larger one only that it was given."""

SOON: Final = 2.0
"""Seconds after which to ask for another's answer at the latest: a lease lasts far longer than most runs."""

NOTHING_RAN: Final = (DeadlineExceededError, NotReadyError)
"""Errors of a run that never began: the claim is given back, and the retry begins anew."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How long a claim lasts without renewal and an answer is kept, in seconds, and what to do without a store.

    `recalls` bounds the requests that are only looked up, since the model would refuse them.
    """

    lease: float
    retention: float
    fail_open: bool
    ledger: bool
    recalls: Capacity


class Question(NamedTuple):
    """A request with a key, in its seat; `refuse` makes an outcome of an error."""

    record: bytes
    fingerprint: Fingerprint
    ledger: LedgerRow
    refuse: Callable[[Exception], Outcome]
    seat: Seat


class Answered(NamedTuple):
    """An answer: what was sent first, whether this is a replay, the attempt that gave it, and whether it is kept."""

    outcome: Outcome
    replayed: bool = False
    attempt: int = 1
    stored: bool = True


Granted: TypeAlias = New | Owned | Takeover | Poisoned
Run: TypeAlias = Callable[[], Awaitable[Outcome]]


class Guard:
    """Answers each key once, with a store."""

    def __init__(self, store: Store, renewal: Renewal, terms: Terms, telemetry: Telemetry) -> None:
        self._store = store
        self._renewal = renewal
        self._terms = terms
        self._telemetry = telemetry
        self._calls = Calls(telemetry)
        self._seats = Seats()
        self._recalls = Room(terms.recalls, telemetry.rejected)
        self._confirming: Confirming[Answered] = Confirming(store, renewal, self._calls)

    def seat(self, admission: Admission, size: int) -> Seat:
        """Return the seat of a request of so many bytes, which that has let in; to be entered while it is in hand."""
        return Seat(self._seats, admission, size)

    async def answer(self, question: Question, run: Run) -> Answered:
        """Return the one answer to a question, by running it if nobody has; `run` takes its seat again.

        Raises KeyMismatchError, InProgressError, AnswerNotKeptError, StoreFailedError (an UnconfirmedError if it has
        run, and may yet be answered), and of the run's errors those of a run that never began; all others are answers.
        """
        while True:
            claim_id = os.urandom(16)
            match claimed := await self._claim(question, claim_id):
                case StoreUnavailableError() | StoreFailedError():
                    return await self._without_store(question, claimed, run)
                case Done(answer):
                    return self._replay(answer)
                case Mismatch():
                    self._telemetry.idempotent("mismatch")
                    raise KeyMismatchError
                case Busy(remaining):
                    raise InProgressError(min(remaining, SOON))
                case New() | Owned() | Takeover() | Poisoned():
                    answered = await self._run(question, claim_id, claimed, run)
                    if answered is not None:
                        return answered
                    # Another has answered, or will: the store says what, by this request's own fingerprint.
                    self._telemetry.idempotent("lost")

    async def kept(self, record: bytes, fingerprint: Fingerprint, size: int) -> Answered | None:
        """Return the answer that was given to a request of so many bytes, None if there is none; nothing is claimed.

        Raises KeyMismatchError, AnswerNotKeptError, StoreFailedError, StoreBusyError.
        """
        self._recalls.take(size)
        try:
            self._calls.check()
            found = await self._calls.until_known("read", lambda: self._store.read(record))
        except StoreUnavailableError as error:
            raise failed(error) from error
        finally:
            self._recalls.give_back(size)
        if found is None or found.answer is None:
            return None
        if not found.fingerprint.is_of(fingerprint):
            self._telemetry.idempotent("mismatch")
            raise KeyMismatchError
        return self._replay(found.answer)

    def in_progress(self) -> None:
        """Note that somebody was told to come again for another's answer."""
        self._telemetry.idempotent("in_progress")

    def coalesced(self, answered: Answered) -> Answered:
        """Return the answer as one who asked meanwhile gets it."""
        self._telemetry.idempotent("coalesced")
        return answered._replace(replayed=True)

    async def _run(self, question: Question, claim_id: bytes, claimed: Granted, run: Run) -> Answered | None:
        held = self._renewal.holding(question.record, claim_id)
        with held:
            if isinstance(claimed, Poisoned):
                outcome = question.refuse(PoisonedError(claimed.attempt - 1))
            else:
                outcome = await self._outcome(question, claim_id, run)
            try:
                if not await self._complete(question, claim_id, outcome):
                    return None
            except StoreFailedError as error:
                if self._terms.fail_open:
                    self._telemetry.idempotent("bypassed")
                    return Answered(outcome, attempt=claimed.attempt, stored=False)
                completion = self._completion(question, claim_id, outcome)
                answer = partial(self._first, claimed, outcome)
                later = self._confirming.begin(held, completion, len(outcome.body), answer)
                if later is None:
                    raise
                raise UnconfirmedError(error, later) from error
        return self._first(claimed, outcome)

    def _first(self, claimed: Granted, outcome: Outcome) -> Answered:
        self._telemetry.idempotent("taken_over" if isinstance(claimed, Takeover) else "first")
        return Answered(outcome, attempt=claimed.attempt)

    async def _outcome(self, question: Question, claim_id: bytes, run: Run) -> Outcome:
        try:
            return await run()
        except NOTHING_RAN as error:
            nothing_ran = error
        except Exception as error:
            return question.refuse(error)
        await self._release(question, claim_id)
        raise nothing_ran

    async def _claim(self, question: Question, claim_id: bytes) -> Claimed | StoreUnavailableError | StoreFailedError:
        """Claim; return what the store tells, or that it failed."""
        terms = self._terms
        claim = Claim(question.record, question.fingerprint, claim_id, terms.lease, terms.retention)
        try:
            self._calls.check()
            return await question.seat.wait(self._calls.until_known("claim", lambda: self._store.claim(claim)))
        except (StoreUnavailableError, StoreFailedError) as error:
            return error

    async def _complete(self, question: Question, claim_id: bytes, outcome: Outcome) -> bool:
        """Store an outcome; tell whether it is the answer. Raises StoreFailedError if that cannot be known."""
        completion = self._completion(question, claim_id, outcome)
        told = await question.seat.wait(self._calls.until_known("complete", lambda: self._store.complete(completion)))
        return isinstance(told, Committed)

    def _completion(self, question: Question, claim_id: bytes, outcome: Outcome) -> Completion:
        ledger = question.ledger if self._terms.ledger else None
        return Completion(question.record, claim_id, kept(outcome), self._terms.retention, ledger)

    async def _release(self, question: Question, claim_id: bytes) -> None:
        try:
            await question.seat.wait(
                self._calls.until_known("release", lambda: self._store.release(question.record, claim_id))
            )
        except (StoreUnavailableError, StoreFailedError) as error:
            log.warning("a claim could not be given back, and lasts until its lease ends: %s", error)

    async def _without_store(
        self, question: Question, error: StoreUnavailableError | StoreFailedError, run: Run
    ) -> Answered:
        # A record that cannot be read is there: to run would be to give it a second answer.
        if not self._terms.fail_open or isinstance(error.__cause__, UnreadableRecordError):
            raise error if isinstance(error, StoreFailedError) else failed(error) from error
        self._telemetry.idempotent("bypassed")
        try:
            outcome = await run()
        except NOTHING_RAN:
            raise
        except Exception as run_error:
            outcome = question.refuse(run_error)
        return Answered(outcome, stored=False)

    def _replay(self, answer: Answer) -> Answered:
        if isinstance(answer, Tombstone):
            raise AnswerNotKeptError(answer.status, answer.size)
        self._telemetry.idempotent("replayed")
        return Answered(answer, replayed=True)


def kept(outcome: Outcome) -> Answer:
    """Return what is kept of an outcome."""
    if len(outcome.body) <= KEPT_BYTES:
        return outcome
    return Tombstone(outcome.status, hashlib.sha256(outcome.body).digest(), len(outcome.body))
