"""Callers who meet another's run, and how they pass through the pipeline."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest

from onceserve_serving.admission import Capacity
from onceserve_serving.batching.flush import Limits
from onceserve_serving.engine import ort
from onceserve_serving.engine.runner import Runner, warm_up
from onceserve_serving.engine.thread import InferenceThread
from onceserve_serving.errors import (
    DeadlineExceededError,
    InProgressError,
    InvalidKeyError,
    KeyMismatchError,
    StoreBusyError,
)
from onceserve_serving.idempotency import guard, seats
from onceserve_serving.idempotency.guard import Answered, Guard
from onceserve_serving.idempotency.memory import MemoryStore
from onceserve_serving.idempotency.record import Fingerprint, Outcome
from onceserve_serving.idempotency.renewal import Renewal
from onceserve_serving.idempotency.store import Claim, Claimed, Completion, New
from onceserve_serving.pipeline import Call, Inference, Keyed, Pipeline
from onceserve_serving.served import DEFAULT_CAPACITY, ServedModel, Terms
from onceserve_serving.telemetry import Telemetry
from onceserve_serving.tensors import InferenceRequest
from unit.serving import models

RECORD, ELSEWHERE = b"r" * 32, b"e" * 16
FINGERPRINT = Fingerprint(b"1" * 40)
THEIRS, OURS = Outcome(200, (), b"theirs"), Outcome(200, (), b"ours")
LEASE = 30.0


@pytest.fixture
async def model() -> AsyncIterator[ServedModel]:
    """A model that takes one request at a time and lets nobody wait."""
    served = ServedModel("m", "1", Terms(batches=Limits(rows=1), capacity=Capacity(1, 0, 0)))
    engine = ort.load(models.identity(), 1)
    thread = InferenceThread()
    served.install(Runner(engine, thread, warm_up(engine)))
    yield served
    thread.close()


class Counting(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.claims = 0

    async def claim(self, claim: Claim) -> Claimed:
        self.claims += 1
        return await super().claim(claim)


class Hanging(MemoryStore):
    """Answers no claim of this record before it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.heals = asyncio.Event()

    async def claim(self, claim: Claim) -> Claimed:
        if claim.record == RECORD:
            await self.heals.wait()
        return await super().claim(claim)


class Server:
    """One pipeline on a store whose key may be claimed elsewhere."""

    def __init__(self, model: ServedModel, store: MemoryStore, *, fail_open: bool = False) -> None:
        self.store = store
        terms = guard.Terms(LEASE, 10 * LEASE, fail_open=fail_open, ledger=False, recalls=DEFAULT_CAPACITY)
        self.pipeline = Pipeline(timeout=30, guard=Guard(store, Renewal(store, LEASE), terms, Telemetry()))
        inputs = {"x": np.zeros((1, 3), np.float32)}
        self.call = Call(model, 12, lambda _: InferenceRequest(None, inputs, ("y",)))

    async def ask(
        self,
        wait: float,
        fingerprint: Fingerprint = FINGERPRINT,
        encode: Callable[[Inference], Outcome] = lambda _: OURS,
        record: bytes = RECORD,
    ) -> Answered:
        keyed = Keyed(record, fingerprint, wait, encode, lambda error: Outcome(500, (), str(error).encode()))
        return await self.pipeline.infer_once(self.call, keyed)

    async def claim_elsewhere(self, lease: float = LEASE) -> None:
        assert isinstance(await self.store.claim(Claim(RECORD, FINGERPRINT, ELSEWHERE, lease, 300)), New)

    async def complete_elsewhere(self) -> None:
        await self.store.complete(Completion(RECORD, ELSEWHERE, THEIRS, 300))


@pytest.fixture
def store() -> Counting:
    return Counting()


@pytest.fixture
def server(model: ServedModel, store: Counting) -> Server:
    return Server(model, store)


async def test_who_would_not_wait_is_refused_at_once(server: Server) -> None:
    await server.claim_elsewhere()
    with pytest.raises(InProgressError):
        await server.ask(wait=0)


async def test_who_waits_has_the_other_server_s_answer(server: Server) -> None:
    await server.claim_elsewhere()
    waiting = asyncio.create_task(server.ask(wait=5))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await server.complete_elsewhere()
    assert await waiting == Answered(THEIRS, replayed=True)


async def test_who_waits_takes_over_from_the_dead(server: Server) -> None:
    await server.claim_elsewhere(lease=0.1)
    assert await server.ask(wait=5) == Answered(OURS, attempt=2)


async def test_nobody_waits_longer_than_asked(server: Server) -> None:
    await server.claim_elsewhere()
    with pytest.raises(InProgressError):
        await server.ask(wait=0.1)


async def test_another_request_does_not_wait(server: Server) -> None:
    await server.claim_elsewhere()
    with pytest.raises(KeyMismatchError):
        await server.ask(5, Fingerprint(b"1" * 8 + b"2" * 32))


async def test_who_waits_takes_nobody_s_place(server: Server) -> None:
    """Else the clients of a server that died would hold up all others for the time of a lease."""
    await server.claim_elsewhere()
    waiting = asyncio.create_task(server.ask(wait=5))
    await asyncio.sleep(0.1)
    await server.pipeline.infer(server.call)
    await server.complete_elsewhere()
    await waiting


async def test_who_has_patience_has_it_though_another_did_not(server: Server) -> None:
    await server.claim_elsewhere()
    refused, *waiting = [asyncio.create_task(server.ask(wait)) for wait in (0, 5, 5)]
    with pytest.raises(InProgressError):
        await refused
    await server.complete_elsewhere()
    assert [(await one).outcome for one in waiting] == [THEIRS, THEIRS]


async def test_a_crowd_without_patience_asks_the_store_once(server: Server, store: Counting) -> None:
    await server.claim_elsewhere()
    before = store.claims
    errors = await asyncio.gather(*(server.ask(wait=0) for _ in range(100)), return_exceptions=True)
    assert {type(error) for error in errors} == {InProgressError}
    assert store.claims == before + 1


async def test_equal_requests_at_once_are_one_run(server: Server) -> None:
    runs = 0

    def encode(_: Inference) -> Outcome:
        nonlocal runs
        runs += 1
        return OURS

    answers = await asyncio.gather(*(server.ask(0, encode=encode) for _ in range(50)))
    assert runs == 1
    assert [answered.outcome for answered in answers] == [OURS] * 50
    assert sum(not answered.replayed for answered in answers) == 1


async def test_what_its_client_has_left_is_answered_before_the_server_ends(server: Server) -> None:
    asking = asyncio.create_task(server.ask(wait=0))
    await asyncio.sleep(0)
    asking.cancel()
    await server.pipeline.settled()
    assert (await server.ask(wait=0)).replayed
    with pytest.raises(asyncio.CancelledError):
        await asking


@pytest.mark.parametrize("fail_open", [False, True])
async def test_who_finds_no_room_to_wait_for_the_store_is_refused_even_where_the_store_may_fail(
    model: ServedModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fail_open: bool
) -> None:
    """Whoever was answered before would get another answer."""
    monkeypatch.setattr(seats, "LONG", 0.02)
    store = Hanging()
    server = Server(model, store, fail_open=fail_open)
    first = await server.ask(0, record=ELSEWHERE * 2)
    waiting = asyncio.create_task(server.ask(0))
    await asyncio.sleep(0.1)
    assert model.aside == 1
    with pytest.raises(StoreBusyError):
        await server.ask(0, record=ELSEWHERE * 2)
    await server.pipeline.infer(server.call)
    store.heals.set()
    assert await waiting == first
    assert await server.ask(0, record=ELSEWHERE * 2) == first._replace(replayed=True)
    assert not caplog.records


async def test_who_comes_back_too_late_is_not_run_and_gives_its_claim_back(
    model: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seats, "LONG", 0.02)
    store = Hanging()
    server = Server(model, store)
    server.call = server.call._replace(deadline=time.monotonic() + 0.2)
    waiting = asyncio.create_task(server.ask(0))
    await asyncio.sleep(0.1)
    _, door, _ = model.journey()
    assert door.enter_now()
    store.heals.set()
    with pytest.raises(DeadlineExceededError):
        await waiting
    door.leave()
    server.call = server.call._replace(deadline=None)
    assert await server.ask(0) == Answered(OURS, attempt=1)


async def test_a_pipeline_without_a_store_refuses_keys(server: Server) -> None:
    server.pipeline = Pipeline(timeout=30)
    with pytest.raises(InvalidKeyError, match="keeps no answers"):
        await server.ask(wait=0)
