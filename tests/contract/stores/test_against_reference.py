"""Any sequence of calls, on every store, beside the reference."""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from contract.stores.places import FINGERPRINT, OTHER_REQUEST, Place, ident
from contract.stores.reference import Reference
from onceserve_serving.idempotency import transitions
from onceserve_serving.idempotency.memory import MemoryStore
from onceserve_serving.idempotency.record import Outcome
from onceserve_serving.idempotency.store import (
    Busy,
    Claim,
    Completion,
    Done,
    LostDone,
    New,
    Owned,
    Poisoned,
    State,
    Store,
    Takeover,
)

SETTINGS = settings(
    max_examples=15, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
LONG = 1000.0
OVER = 0.001
REQUESTS = {"one": FINGERPRINT, "another": OTHER_REQUEST}

keys = st.integers(0, 1)
owners = st.integers(0, 2)


def told(answer: Any) -> object:
    """Return an answer as the reference gives it."""
    name = type(answer).__name__
    match answer:
        case New() | Owned() | Takeover() | Poisoned():
            return name, answer.attempt
        case Done() | LostDone():
            assert isinstance(answer.answer, Outcome)
            return name, answer.answer.body
    return name


class AgainstReference(RuleBasedStateMachine):
    """Two keys, three owners, two connections."""

    runner: asyncio.Runner
    stores: list[Store]

    def __init__(self) -> None:
        super().__init__()
        self.reference = Reference()
        self.fences: dict[int, int] = {}

    @initialize()
    def begin(self) -> None:
        self.records = [ident() * 2 for _ in range(2)]
        self.owners = [ident() for _ in range(3)]

    @rule(key=keys, owner=owners, request=st.sampled_from(["one", "one", "one", "another"]), at=st.integers(0, 1))
    def claim(self, key: int, owner: int, request: str, at: int) -> None:
        asked = Claim(self.records[key], REQUESTS[request], self.owners[owner], LONG, 10 * LONG)
        answer = self._run(self.stores[at].claim(asked))
        assert told(answer) == self.reference.claim(key, request, self.owners[owner])
        if isinstance(answer, New | Takeover):
            assert answer.fence > self.fences.get(key, 0)
            self.fences[key] = answer.fence
        if isinstance(answer, Owned):
            assert answer.fence == self.fences[key]
        if isinstance(answer, Poisoned):
            self.fences[key] = answer.fence
        if isinstance(answer, Busy):
            assert 0 < answer.remaining <= LONG

    @rule(key=keys, owner=owners, body=st.binary(max_size=600), at=st.integers(0, 1))
    def complete(self, key: int, owner: int, body: bytes, at: int) -> None:
        given = Completion(self.records[key], self.owners[owner], Outcome(200, (), body), 10 * LONG)
        answer = self._run(self.stores[at].complete(given))
        assert told(answer) == self.reference.complete(key, self.owners[owner], body)

    @rule(key=keys, owner=owners, at=st.integers(0, 1))
    def release(self, key: int, owner: int, at: int) -> None:
        held = self._run(self.stores[at].release(self.records[key], self.owners[owner]))
        assert held == self.reference.holds(key, self.owners[owner])
        if held:
            self.reference.entries[key].holder = None
            self.reference.entries[key].attempt -= 1

    @rule(key=keys, owner=owners, lease=st.sampled_from([OVER, LONG]))
    def renew(self, key: int, owner: int, lease: float) -> None:
        held = self._run(self.stores[0].renew(self.records[key], self.owners[owner], lease))
        self._run(asyncio.sleep(0.005))
        assert held == self.reference.holds(key, self.owners[owner])
        if held:
            self.reference.entries[key].lease_over = lease == OVER

    @rule(key=keys, owner=owners)
    def answer_for_a_moment(self, key: int, owner: int) -> None:
        if self.reference.holds(key, self.owners[owner]):
            given = Completion(self.records[key], self.owners[owner], Outcome(200, (), b""), OVER)
            self._run(self.stores[0].complete(given))
            self._run(asyncio.sleep(0.005))
            del self.reference.entries[key]

    @rule()
    def sweep(self) -> None:
        self._run(self.stores[0].sweep())

    @rule(key=keys)
    def read(self, key: int) -> None:
        seen, expected = self._run(self.stores[1].read(self.records[key])), self.reference.entries.get(key)
        assert (seen is None) == (expected is None)
        if seen is not None and expected is not None:
            assert (seen.attempt, seen.claim_id) == (expected.attempt, expected.claimed_by)
            assert seen.answer == (None if expected.answer is None else Outcome(200, (), expected.answer))

    def _run(self, call: Any) -> Any:
        return self.runner.run(call)


def test_it_answers_as_the_reference_does(place: Place) -> None:
    with asyncio.Runner() as runner:
        stores = [place.make() for _ in range(2)]
        for store in stores:
            runner.run(store.open())
        machine = type("Machine", (AgainstReference,), {"runner": runner, "stores": stores})
        run_state_machine_as_test(machine, settings=SETTINGS)
        for store in stores:
            runner.run(store.close())


def test_the_comparison_notices_a_store_that_does_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transitions, "_holds", lambda record, _claim_id: record.state == State.RUNNING)
    store = MemoryStore()
    with asyncio.Runner() as runner:
        machine = type("Machine", (AgainstReference,), {"runner": runner, "stores": [store, store]})
        with pytest.raises(AssertionError):
            run_state_machine_as_test(machine, settings=settings(SETTINGS, phases=[Phase.generate]))
