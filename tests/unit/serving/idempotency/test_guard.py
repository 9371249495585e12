import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import pytest

from onceserve_serving.admission import Admission, Capacity
from onceserve_serving.errors import (
    AnswerNotKeptError,
    DeadlineExceededError,
    ExecutionFailedError,
    InProgressError,
    KeyMismatchError,
    NotReadyError,
    PoisonedError,
    StoreBusyError,
    StoreFailedError,
)
from onceserve_serving.idempotency import calls, confirming, guard
from onceserve_serving.idempotency.breaker import FAILURES
from onceserve_serving.idempotency.calls import AGAIN
from onceserve_serving.idempotency.confirming import GivenUpError, UnconfirmedError
from onceserve_serving.idempotency.guard import Answered, Guard, Question, Terms
from onceserve_serving.idempotency.ledger import LedgerRow
from onceserve_serving.idempotency.memory import MemoryStore
from onceserve_serving.idempotency.record import Fingerprint, Outcome, UnreadableRecordError
from onceserve_serving.idempotency.renewal import Renewal
from onceserve_serving.idempotency.seats import Seat, Seats
from onceserve_serving.idempotency.store import (
    Claim,
    Claimed,
    Completed,
    Completion,
    Snapshot,
    State,
    Store,
    StoreUnavailableError,
    UnknownOutcomeError,
)
from onceserve_serving.telemetry import Telemetry

R = TypeVar("R")

RECORD = b"r" * 32
FINGERPRINT, ANOTHER = Fingerprint(b"1" * 40), Fingerprint(b"1" * 8 + b"2" * 32)
ROW = LedgerRow("tenant", "m", "sha", "1")
LEASE = 30.0
CAPACITY = Capacity(concurrency=1, queue=0, queue_bytes=0)
SHORT = 0.03


class Line:
    """A memory store behind a line on which calls go wrong as planned: refused, lost, stuck, or without a reply."""

    def __init__(self, store: MemoryStore, **plans: list[str]) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.store = store
        self.stuck = asyncio.Event()
        self._plans = plans

    async def claim(self, asked: Claim) -> Claimed:
        return await self._call("claim", asked, lambda: self.store.claim(asked))

    async def complete(self, asked: Completion) -> Completed:
        # A store without a ledger refuses a row.
        return await self._call("complete", asked, lambda: self.store.complete(asked._replace(ledger=None)))

    async def read(self, record: bytes) -> Snapshot | None:
        return await self._call("read", record, lambda: self.store.read(record))

    async def release(self, record: bytes, claim_id: bytes) -> bool:
        return await self._call("release", claim_id, lambda: self.store.release(record, claim_id))

    async def _call(self, operation: str, asked: object, call: Callable[[], Awaitable[R]]) -> R:
        self.calls.append((operation, asked))
        plan = self._plans.get(operation)
        match plan.pop(0) if plan else "answered":
            case "refused":
                raise StoreUnavailableError("refused")
            case "unreadable":
                raise UnreadableRecordError("of another release")
            case "lost":
                raise UnknownOutcomeError("lost")
            case "stuck":
                await self.stuck.wait()
            case "unanswered":
                await call()
                raise UnknownOutcomeError("unanswered")
        return await call()


class Runs:
    """Counts runs, each of which gives another answer; `error` is raised instead."""

    def __init__(self, error: BaseException | None = None, seconds: float = 0.0) -> None:
        self.count = 0
        self.error = error
        self.seconds = seconds

    async def __call__(self) -> Outcome:
        self.count += 1
        answer = Outcome(200, ((b"n", b"v"),), b"run %d" % self.count)
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return answer


def refuse(error: Exception) -> Outcome:
    return Outcome(500, (), f"{type(error).__name__}: {error}".encode())


def asks(fingerprint: Fingerprint = FINGERPRINT) -> Question:
    seat = Seat(Seats(), Admission(CAPACITY, lambda _: None), 0)
    return Question(RECORD, fingerprint, ROW, refuse, seat)


def guard_of(
    store: MemoryStore | Line,
    *,
    fail_open: bool = False,
    ledger: bool = False,
    lease: float = LEASE,
    telemetry: Telemetry | None = None,
) -> Guard:
    terms = Terms(lease, max(10 * lease, 10), fail_open, ledger, CAPACITY)
    return Guard(cast("Store", store), Renewal(cast("Store", store), lease), terms, telemetry or Telemetry())


async def begun(guard: Guard, runs: Runs, question: Question | None = None) -> "asyncio.Task[Answered]":
    """Return an answer on its way, whose run has begun."""
    task = asyncio.create_task(guard.answer(question or asks(), runs))
    before = runs.count
    while runs.count == before:  # noqa: ASYNC110
        await asyncio.sleep(0)
    return task


async def crash(guard: Guard, runs: Runs) -> None:
    task = await begun(guard, runs)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "AGAIN", (0.0,) * len(AGAIN))
    monkeypatch.setattr(confirming, "PAUSE", 0.005)


async def test_the_first_runs_and_all_others_have_its_bytes() -> None:
    store, runs = MemoryStore(), Runs()
    first = await guard_of(store).answer(asks(), runs)
    assert first == Answered(Outcome(200, ((b"n", b"v"),), b"run 1"), replayed=False, attempt=1, stored=True)
    assert await guard_of(store).answer(asks(), runs) == first._replace(replayed=True)
    assert runs.count == 1


async def test_another_request_is_refused_and_not_run() -> None:
    store, runs = MemoryStore(), Runs()
    running = await begun(guard_of(store), Runs(seconds=0.01))
    for _ in range(2):
        with pytest.raises(KeyMismatchError):
            await guard_of(store).answer(asks(ANOTHER), runs)
        await running
    assert runs.count == 0


async def test_who_meets_another_s_run_is_told_when_to_come_again() -> None:
    store, runs = MemoryStore(), Runs()
    running = await begun(guard_of(store), Runs(seconds=0.01))
    with pytest.raises(InProgressError) as told:
        await guard_of(store).answer(asks(), runs)
    assert told.value.retry_after == guard.SOON
    await running
    assert runs.count == 0


async def test_the_model_s_error_is_an_answer() -> None:
    store = MemoryStore()
    answered = await guard_of(store).answer(asks(), Runs(ExecutionFailedError("it failed")))
    assert answered.outcome == Outcome(500, (), b"ExecutionFailedError: it failed")
    assert await guard_of(store).answer(asks(), Runs()) == answered._replace(replayed=True)


@pytest.mark.parametrize("error", [DeadlineExceededError("late"), NotReadyError("gone")])
async def test_what_never_ran_is_no_answer_and_no_attempt(error: Exception) -> None:
    store, runs = MemoryStore(), Runs()
    for _ in range(5):
        with pytest.raises(type(error)):
            await guard_of(store).answer(asks(), Runs(error))
    assert (await guard_of(store).answer(asks(), runs)).attempt == 1
    assert runs.count == 1


@pytest.mark.parametrize("plan", ["refused", "lost", "unanswered"])
async def test_a_claim_that_cannot_be_given_back_changes_nothing_for_the_caller(
    plan: str, caplog: pytest.LogCaptureFixture
) -> None:
    line = Line(MemoryStore(), release=[plan] * len(AGAIN))
    with pytest.raises(DeadlineExceededError):
        await guard_of(line).answer(asks(), Runs(DeadlineExceededError("late")))
    assert "a claim could not be given back" in caplog.text


@pytest.mark.parametrize("plan", [["unanswered"], ["lost"], ["unanswered", "lost", "refused"]])
async def test_a_claim_without_a_reply_is_repeated_under_the_same_id(plan: list[str]) -> None:
    line, runs = Line(MemoryStore(), claim=plan), Runs()
    tries = len(plan) + 1
    answered = await guard_of(line).answer(asks(), runs)
    assert (answered.attempt, runs.count) == (1, 1)
    claims = [asked for operation, asked in line.calls if operation == "claim"]
    assert len(claims) == tries
    assert len(set(claims)) == 1


@pytest.mark.parametrize("plan", [["unanswered"], ["lost"], ["refused"], ["unanswered", "lost", "refused"]])
async def test_a_completion_without_a_reply_is_repeated_until_it_is_known(plan: list[str]) -> None:
    line, runs = Line(MemoryStore(), complete=plan), Runs()
    tries = len(plan) + 1
    answered = await guard_of(line).answer(asks(), runs)
    assert (answered.outcome.body, answered.stored, runs.count) == (b"run 1", True, 1)
    completions = [asked for operation, asked in line.calls if operation == "complete"]
    assert len(completions) == tries
    assert len(set(completions)) == 1


@pytest.mark.parametrize("plan", ["unanswered", "lost", "refused"])
async def test_what_is_not_known_to_be_stored_is_not_answered_and_not_thrown_away(plan: str) -> None:
    store, runs = MemoryStore(), Runs()
    line = Line(store, complete=[plan] * (len(AGAIN) + 3))
    one = guard_of(line)
    with pytest.raises(UnconfirmedError, match="may be sent again with the same key") as told:
        await one.answer(asks(), runs)
    assert told.value.retry_after == 1.0
    assert [operation for operation, _ in line.calls] == ["claim"] + ["complete"] * len(AGAIN)
    answered = await told.value.later
    assert answered == Answered(Outcome(200, ((b"n", b"v"),), b"run 1"), attempt=1)
    assert len({asked for operation, asked in line.calls if operation == "complete"}) == 1
    assert await guard_of(store).answer(asks(), runs) == answered._replace(replayed=True)
    assert runs.count == 1
    assert not one._renewal._held


async def unconfirmed(one: Guard, question: Question | None = None) -> "asyncio.Task[Answered]":
    with pytest.raises(UnconfirmedError) as told:
        await one.answer(question or asks(), Runs())
    later: asyncio.Task[Answered] = told.value.later
    return later


async def test_its_claim_is_held_meanwhile() -> None:
    one = guard_of(Line(MemoryStore(), complete=["refused"] * 100))
    await unconfirmed(one)
    await asyncio.sleep(0.02)
    assert len(one._renewal._held) == 1


async def test_a_store_that_does_not_take_an_answer_is_tried_while_the_lease_lasts() -> None:
    store = MemoryStore()
    one = guard_of(Line(store, complete=["refused"] * 10_000), lease=SHORT)
    with pytest.raises(GivenUpError, match="its lease has ended"):
        await (await unconfirmed(one))
    assert not one._renewal._held
    assert (await guard_of(store).answer(asks(), Runs())).attempt == 2


async def test_an_answer_that_another_has_given_meanwhile_is_given_up() -> None:
    store = MemoryStore()
    one = guard_of(Line(store, complete=["refused"] * (len(AGAIN) + 1)))
    later = await unconfirmed(one)
    store._records.clear()
    winner = await guard_of(store).answer(asks(), lambda: _answered(b"the winner's"))
    with pytest.raises(GivenUpError, match="the claim is another's"):
        await later
    assert await guard_of(store).answer(asks(), Runs()) == winner._replace(replayed=True)
    assert not one._renewal._held


async def test_an_answer_to_a_record_that_cannot_be_judged_is_given_up() -> None:
    one = guard_of(Line(MemoryStore(), complete=["refused"] * len(AGAIN) + ["unreadable"]))
    with pytest.raises(GivenUpError, match="of another release"):
        await (await unconfirmed(one))


@pytest.mark.parametrize(("limit", "most"), [("MOST", 1), ("MOST_BYTES", 9)])
async def test_so_many_answers_wait_for_the_store_and_no_more(
    limit: str, most: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(confirming, limit, most)
    line = Line(MemoryStore(), complete=["refused"] * 2 * len(AGAIN))
    one = guard_of(line)
    later = await unconfirmed(one)
    with pytest.raises(StoreFailedError) as told:
        await one.answer(asks()._replace(record=b"s" * 32), Runs())
    assert type(told.value) is StoreFailedError
    assert "an answer is lost: the store does not take it, and 1 wait already" in caplog.text
    assert [held.record for held in one._renewal._held] == [RECORD]
    await later
    line._plans["complete"] = ["refused"] * len(AGAIN)
    await (await unconfirmed(one, asks()._replace(record=b"t" * 32)))


@pytest.mark.parametrize("plan", [["refused"], ["lost"] * 4, ["lost", "refused", "refused", "refused"]])
async def test_without_a_store_nothing_runs(plan: list[str]) -> None:
    runs = Runs()
    with pytest.raises(StoreFailedError):
        await guard_of(Line(MemoryStore(), claim=plan)).answer(asks(), runs)
    assert runs.count == 0


async def test_without_a_store_all_run_if_that_was_asked_for() -> None:
    answered = await guard_of(Line(MemoryStore(), claim=["refused"]), fail_open=True).answer(asks(), Runs())
    assert (answered.outcome.body, answered.stored) == (b"run 1", False)
    line = Line(MemoryStore(), complete=["refused"] * len(AGAIN))
    answered = await guard_of(line, fail_open=True).answer(asks(), Runs())
    assert (answered.outcome.body, answered.stored) == (b"run 1", False)


async def test_a_store_that_never_answers_is_not_asked_any_more() -> None:
    line = Line(MemoryStore(), claim=["refused"] * FAILURES)
    one = guard_of(line)
    for _ in range(FAILURES + 3):
        with pytest.raises(StoreFailedError):
            await one.answer(asks(), Runs())
    assert len(line.calls) == FAILURES


async def test_who_comes_too_late_has_the_winner_s_bytes() -> None:
    store = MemoryStore()
    late = await begun(guard_of(store, lease=SHORT), slow := Runs(seconds=4 * SHORT))
    await asyncio.sleep(2 * SHORT)
    winner = await guard_of(store).answer(asks(), lambda: _answered(b"the winner's"))
    assert (winner.attempt, late.done()) == (2, False)
    assert await late == Answered(Outcome(200, (), b"the winner's"), replayed=True)
    assert slow.count == 1


async def _answered(body: bytes) -> Outcome:
    return Outcome(200, (), body)


async def test_who_comes_so_late_that_another_request_has_the_key_is_refused() -> None:
    store = MemoryStore()
    late = await begun(guard_of(store), Runs(seconds=0.02))
    store._records.clear()
    assert (await guard_of(store).answer(asks(ANOTHER), Runs())).attempt == 1
    with pytest.raises(KeyMismatchError):
        await late


async def test_who_lost_its_claim_and_nobody_answered_runs_again_under_another_id() -> None:
    line = Line(MemoryStore())
    late = await begun(guard_of(line), runs := Runs(seconds=0.02))
    line.store._records.clear()
    assert (await late).outcome.body == b"run 2"
    assert runs.count == 2
    assert len({asked.claim_id for _, asked in line.calls}) == 2


async def test_what_kills_its_servers_is_run_so_often_and_no_more() -> None:
    store, runs = MemoryStore(), Runs(seconds=10)
    for _ in range(3):
        await crash(guard_of(store, lease=SHORT), runs)
        await asyncio.sleep(2 * SHORT)
    answers = [await guard_of(store).answer(asks(), runs) for _ in range(3)]
    assert {answer.outcome for answer in answers} == {refuse(PoisonedError(3))}
    assert [answer.replayed for answer in answers] == [False, True, True]
    assert runs.count == 3


async def test_who_ends_between_claim_and_completion_leaves_the_claim_to_its_lease() -> None:
    line = Line(MemoryStore())
    await crash(guard_of(line), Runs(seconds=10))
    assert [operation for operation, _ in line.calls] == ["claim"]
    left = await line.store.read(RECORD)
    assert left is not None
    assert (left.state, left.attempt) == (State.RUNNING, 1)


async def test_a_run_that_is_cancelled_is_no_answer() -> None:
    line = Line(MemoryStore())
    with pytest.raises(asyncio.CancelledError):
        await guard_of(line).answer(asks(), Runs(asyncio.CancelledError()))
    assert [operation for operation, _ in line.calls] == ["claim"]


async def test_nothing_is_held_once_there_is_an_answer_or_an_error() -> None:
    for error in (None, ExecutionFailedError("failed"), DeadlineExceededError("late"), asyncio.CancelledError()):
        one = guard_of(MemoryStore())
        await asyncio.gather(one.answer(asks(), Runs(error)), return_exceptions=True)
        assert not one._renewal._held


async def test_a_large_answer_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "KEPT_BYTES", 5)
    store, runs = MemoryStore(), Runs()
    assert (await guard_of(store).answer(asks(), lambda: _answered(b"12345"))).outcome.body == b"12345"
    store._records.clear()
    assert (await guard_of(store).answer(asks(), lambda: _answered(b"123456"))).outcome.body == b"123456"
    with pytest.raises(AnswerNotKeptError, match=r"was answered with status 200 and 6 bytes.*it is not run again"):
        await guard_of(store).answer(asks(), runs)
    assert runs.count == 0


async def test_a_record_that_cannot_be_judged_is_neither_run_nor_answered(caplog: pytest.LogCaptureFixture) -> None:
    store, runs = MemoryStore(), Runs()
    await guard_of(store).answer(asks(), Runs())
    with caplog.at_level(logging.ERROR), pytest.raises(StoreFailedError):
        await guard_of(store).answer(asks(Fingerprint(b"3" * 40)), runs)
    assert "a secret that this server does not have" in caplog.text
    assert runs.count == 0


@pytest.mark.parametrize(("ledger", "row"), [(True, ROW), (False, None)])
async def test_a_row_goes_with_the_completion_where_there_is_a_ledger(ledger: bool, row: LedgerRow | None) -> None:
    line = Line(MemoryStore())
    await guard_of(line, ledger=ledger).answer(asks(), Runs())
    assert [asked.ledger for operation, asked in line.calls if operation == "complete"] == [row]


async def test_who_asked_meanwhile_has_a_replay() -> None:
    answered = Answered(Outcome(200, (), b"x"), attempt=2)
    assert guard_of(MemoryStore()).coalesced(answered) == answered._replace(replayed=True)


async def test_who_fails_open_is_answered_when_the_claim_s_fate_is_unknown() -> None:
    line = Line(MemoryStore(), claim=["lost"] * len(AGAIN))
    answered = await guard_of(line, fail_open=True).answer(asks(), Runs())
    assert not answered.stored


async def test_nobody_fails_open_over_a_record_that_cannot_be_read() -> None:
    runs = Runs()
    line = Line(MemoryStore(), claim=["unreadable"])
    with pytest.raises(StoreFailedError):
        await guard_of(line, fail_open=True).answer(asks(), runs)
    assert runs.count == 0


async def test_who_is_refused_anyway_reads_the_store_while_there_is_room(caplog: pytest.LogCaptureFixture) -> None:
    """Room for one, as the terms of these guards have it."""
    telemetry = Telemetry()
    line = Line(store := MemoryStore(), read=["stuck"])
    one = guard_of(line, telemetry=telemetry)
    await guard_of(store).answer(asks(), Runs())
    reading = asyncio.create_task(one.kept(RECORD, FINGERPRINT, 1))
    await asyncio.sleep(0)
    with pytest.raises(StoreBusyError, match="neither looked up nor run"):
        await one.kept(RECORD, FINGERPRINT, 1)
    assert telemetry.registry.get_sample_value("onceserve_rejected_total", {"reason": "store"}) == 1
    assert not caplog.records
    line.stuck.set()
    found = await reading
    assert found is not None
    assert await one.kept(RECORD, FINGERPRINT, 10**9) == found


async def test_who_finds_no_room_leaves_the_look_at_a_failed_store_to_others() -> None:
    line = Line(MemoryStore(), read=["refused"] * FAILURES)
    one = guard_of(line)
    for _ in range(FAILURES):
        with pytest.raises(StoreFailedError):
            await one.kept(RECORD, FINGERPRINT, 1)
    one._calls._breaker._again_at = 0.0
    one._recalls.take(1)
    with pytest.raises(StoreBusyError):
        await one.kept(RECORD, FINGERPRINT, 1)
    one._recalls.give_back(1)
    assert await one.kept(RECORD, FINGERPRINT, 1) is None
