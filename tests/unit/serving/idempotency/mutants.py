"""What the guard and a store would be without one of their guards each; docs/formal.md has the same for the model."""

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from onceserve_serving.errors import ExecutionFailedError, StoreFailedError, too_late
from onceserve_serving.idempotency import transitions
from onceserve_serving.idempotency.confirming import Confirming, GivenUpError
from onceserve_serving.idempotency.guard import Answered, Granted, Guard, Question, Run, Terms, kept
from onceserve_serving.idempotency.record import Fingerprint, Outcome
from onceserve_serving.idempotency.renewal import Held, Renewal
from onceserve_serving.idempotency.store import Claim, Claimed, Completed, Completion, LostDone, Poisoned, State, Store
from onceserve_serving.idempotency.transitions import Record
from onceserve_serving.telemetry import Telemetry
from unit.serving.idempotency.simulation import HOUR, Rules


class RespondsFirst(Guard):
    async def _complete(self, question: Question, claim_id: bytes, outcome: Outcome) -> bool:
        asyncio.get_running_loop().create_task(super()._complete(question, claim_id, outcome))
        return True


class LoserAnswers(Guard):
    async def _complete(self, question: Question, claim_id: bytes, outcome: Outcome) -> bool:
        await super()._complete(question, claim_id, outcome)
        return True


class UnknownIsSuccess(Guard):
    async def _complete(self, question: Question, claim_id: bytes, outcome: Outcome) -> bool:
        try:
            return await super()._complete(question, claim_id, outcome)
        except StoreFailedError:
            return True


class UnknownIsRunAgain(Guard):
    async def _run(self, question: Question, claim_id: bytes, claimed: Granted, run: Run) -> Answered | None:
        try:
            return await super()._run(question, claim_id, claimed, run)
        except StoreFailedError:
            return await super()._run(question, claim_id, claimed, run)


class FailureIsReleased(Guard):
    async def _outcome(self, question: Question, claim_id: bytes, run: Run) -> Outcome:
        async def begun() -> Outcome:
            try:
                return await run()
            except ExecutionFailedError as error:
                raise too_late() from error

        return await super()._outcome(question, claim_id, begun)


class WinnerIsNotCompared(Guard):
    async def _run(self, question: Question, claim_id: bytes, claimed: Granted, run: Run) -> Answered | None:
        if isinstance(claimed, Poisoned):
            return await super()._run(question, claim_id, claimed, run)
        outcome = await self._outcome(question, claim_id, run)
        completion = Completion(question.record, claim_id, kept(outcome), self._terms.retention)
        told = await self._calls.until_known("complete", lambda: self._store.complete(completion))
        return self._replay(told.answer) if isinstance(told, LostDone) else Answered(outcome)


class NothingWaits(Confirming[Answered]):
    def begin(self, *_: object) -> None:
        return None


class ThrowsAway(Guard):
    def __init__(self, store: Store, renewal: Renewal, terms: Terms, telemetry: Telemetry) -> None:
        super().__init__(store, renewal, terms, telemetry)
        self._confirming = NothingWaits(store, renewal, self._calls)


class LoserWaits(Confirming[Answered]):
    async def _confirm(self, held: Held, completion: Completion, answer: Callable[[], Answered]) -> Answered:
        try:
            return await super()._confirm(held, completion, answer)
        except GivenUpError:
            return answer()


class LoserAnswersLater(Guard):
    def __init__(self, store: Store, renewal: Renewal, terms: Terms, telemetry: Telemetry) -> None:
        super().__init__(store, renewal, terms, telemetry)
        self._confirming = LoserWaits(store, renewal, self._calls)


class AnybodyCompletes(Rules):
    @staticmethod
    def complete(
        record: Record | None, claim_id: bytes, answer: bytes, retention: float, now: int
    ) -> tuple[Record | None, Completed]:
        owner = claim_id if record is None or record.state != State.RUNNING else record.claim_id
        return transitions.complete(record, owner, answer, retention, now)


class AnyStateCompletes(Rules):
    @staticmethod
    def complete(
        record: Record | None, claim_id: bytes, answer: bytes, retention: float, now: int
    ) -> tuple[Record | None, Completed]:
        if record is not None and record.claim_id == claim_id:
            record = record._replace(state=State.RUNNING)
        return transitions.complete(record, claim_id, answer, retention, now)


class AnybodyReleases(Rules):
    @staticmethod
    def release(record: Record | None, claim_id: bytes, now: int) -> tuple[Record | None, bool]:
        return transitions.release(record, claim_id if record is None else record.claim_id, now)


class ReleaseForgetsAttempts(Rules):
    @staticmethod
    def release(record: Record | None, claim_id: bytes, now: int) -> tuple[Record | None, bool]:
        changed, told = transitions.release(record, claim_id, now)
        return changed and changed._replace(attempt=0), told


class NoCap(Rules):
    @staticmethod
    def claim(record: Record | None, asked: Claim, now: int) -> tuple[Record | None, Claimed]:
        return transitions.claim(record, asked._replace(max_attempts=1000), now)


class NoFingerprint(Rules):
    @staticmethod
    def claim(record: Record | None, asked: Claim, now: int) -> tuple[Record | None, Claimed]:
        if record is not None:
            asked = asked._replace(fingerprint=Fingerprint.parse(record.fingerprint))
        return transitions.claim(record, asked, now)


class CompletionDropsTheFingerprint(Rules):
    @staticmethod
    def claim(record: Record | None, asked: Claim, now: int) -> tuple[Record | None, Claimed]:
        if record is not None and record.state == State.COMPLETED:
            asked = asked._replace(fingerprint=Fingerprint.parse(record.fingerprint))
        return transitions.claim(record, asked, now)


class Forgets(Rules):
    @staticmethod
    def claim(record: Record | None, asked: Claim, now: int) -> tuple[Record | None, Claimed]:
        lost = record is not None and record.state == State.COMPLETED and now % 10 == 0
        return transitions.claim(None if lost else record, asked, now)


class LocalClock(Rules):
    @staticmethod
    def now(true: int, _server: int) -> int:
        return true + int(_server % 3 * HOUR * 1000)


STILL = ("stop", "block")
"""Incidents in which servers live and come too late."""


class Mutant(NamedTuple):
    """One guard that is missing: how to build the world without it, and the promise that breaks."""

    name: str
    without: dict[str, Any]
    breaks: str


MUTANTS = (
    Mutant("respond first", {"make": RespondsFirst}, "G1: an answer is not what the store has"),
    Mutant("loser answers", {"make": LoserAnswers, "incidents": STILL}, "G1: an answer is not what the store has"),
    Mutant("unknown is success", {"make": UnknownIsSuccess}, "G1: an answer is not what the store has"),
    Mutant("unknown is run again", {"make": UnknownIsRunAgain}, "G1: an answer is not what the store has"),
    Mutant("release after a run", {"make": FailureIsReleased}, "there were"),
    Mutant("unconfirmed is thrown away", {"make": ThrowsAway}, "a run was thrown away"),
    Mutant("loser answers later", {"make": LoserAnswersLater}, "G1: an answer is not what the store has"),
    Mutant(
        "winner is not compared",
        {"make": WinnerIsNotCompared, "incidents": STILL},
        "G3: a request was given another's answer",
    ),
    Mutant(
        "anybody completes", {"rules": AnybodyCompletes, "incidents": STILL}, "G1: an answer is not what the store has"
    ),
    Mutant("any state completes", {"rules": AnyStateCompletes}, "G2"),
    Mutant("anybody releases", {"rules": AnybodyReleases}, "a claim was released by another than its owner"),
    Mutant("release forgets the attempts", {"rules": ReleaseForgetsAttempts}, "there were"),
    Mutant("no cap", {"rules": NoCap}, "there were"),
    Mutant("no fingerprint", {"rules": NoFingerprint}, "G3: a request was given another's answer"),
    Mutant("completion drops the fingerprint", {"rules": CompletionDropsTheFingerprint}, "G3"),
    Mutant("store forgets", {"rules": Forgets}, "G2"),
    Mutant("local clock", {"rules": LocalClock}, "an answer was forgotten before its retention ended"),
    Mutant("one time to live", {"leases_end": False}, "no answer"),
)
