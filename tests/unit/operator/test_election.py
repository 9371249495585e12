"""The election under every interleaving: candidates that pause, writes that are lost or come late, clocks that differ.

Driven here is the real code, answer by answer; only the API server and the clocks are made up.
"""

from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass, field, replace
from itertools import count
from math import inf
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onceserve_operator import leadership
from onceserve_operator.election import Candidate, Record, Terms
from onceserve_operator.errors import ApiUnavailableError, ConflictError, NotFoundError
from onceserve_operator.leadership import Leadership

TERMS = Terms()
RATES = (0.9, 1.0, 1.1)
"""How fast the candidates' clocks go."""
MOMENT = 0.01


@dataclass
class Request:
    """A call on its way: it acts when the server gets it, and its caller goes on when the answer comes."""

    act: Any
    answer: Any = None
    acted: bool = False

    def __await__(self) -> Generator["Request", None, Any]:
        yield self
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@dataclass
class Server:
    """The Lease, as the API server keeps it."""

    record: Record | None = None
    versions: Any = field(default_factory=lambda: count(1))
    frozen: bool = False
    """A renewal finds nothing to change, as where the clock of its writer stands still."""

    def write(self, holder: str, version: str | None) -> Record:
        if version is not None and self.record is None:
            raise NotFoundError("no such lease")
        if version != (self.record.version if self.record else None):
            raise ConflictError("another version")
        if self.record is None or not (self.frozen and holder == self.record.holder):
            self.record = Record(holder, str(next(self.versions)))
        return self.record


class FakeLease:
    """What a candidate calls: as the real one it writes on top of the version that it has seen last."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._version: str | None = None

    async def read(self) -> Record | None:
        record: Record | None = await Request(lambda: self._server.record)
        self._version = record.version if record else None
        return record

    async def write(self, holder: str) -> Record:
        version = self._version
        record: Record = await Request(lambda: self._server.write(holder, version))
        self._version = record.version
        return record


def lost(words: str) -> NoReturn:
    raise AssertionError(words)


class Process:
    """A candidate that is stepped from answer to answer."""

    def __init__(self, world: "World", name: str, rate: float) -> None:
        self.rate = rate
        lease: Any = FakeLease(world.server)
        self.leadership = Leadership(
            lease, name, TERMS, on_attempt=lambda _: None, on_loss=lost, clock=lambda: world.now * rate
        )
        self.has_seen_it = False
        self._attempt: Coroutine[Any, Any, object] | None = None
        self.request: Request | None = None

    def step(self, fate: str) -> None:
        """Send the next request, or have it act and answer, as fate has it."""
        if self.request is None:
            # Whoever does not lead looks first, as in a campaign.
            if not self.leadership.leads:
                self.leadership._known = False
            self._attempt = self.leadership.attempt()
            self._advance()
        elif not self.request.acted and fate != "request lost":
            self._act(self.request)
        else:
            answer = self.request.answer if fate == "fine" else ApiUnavailableError(fate)
            self.request.answer = answer
            self._advance()

    def _act(self, request: Request) -> None:
        request.acted = True
        try:
            request.answer = request.act()
        except (ConflictError, NotFoundError) as error:
            request.answer = error

    def _advance(self) -> None:
        assert self._attempt is not None
        try:
            self.request = self._attempt.send(None)
        except StopIteration:
            self.has_seen_it |= self.leadership._candidate.record is not None
            self.request = None

    def release(self) -> None:
        self.finish()
        self._attempt = self.leadership.release()
        self._advance()
        self.finish()

    def finish(self) -> None:
        while self.request is not None:
            self.step("fine")


@dataclass
class World:
    now: float = 1000.0
    server: Server = field(default_factory=Server)
    processes: list[Process] = field(default_factory=list)
    names: Any = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.processes = [Process(self, f"c{next(self.names)}", rate) for rate in RATES]

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.check()

    def check(self) -> None:
        leaders = sum(process.leadership.leads for process in self.processes)
        assert leaders <= 1, f"{leaders} lead at once"

    def step(self, number: int, fate: str) -> None:
        self.processes[number].step(fate)

    def rounds(self, number: int, rounds: int) -> None:
        """One candidate looks now and then, and all goes well."""
        for _ in range(rounds):
            self.processes[number].step("fine")
            self.processes[number].finish()
            self.passes(TERMS.retry)

    def freeze(self, frozen: bool) -> None:
        self.server.frozen = frozen

    def release(self, number: int) -> None:
        """A candidate ends well, and another is started in its place."""
        self.processes[number].release()
        self.restart(number)

    def restart(self, which: int) -> None:
        # Who has never seen the lease cannot know of the leader under whom it was deleted.
        if self.server.record is not None:
            self.processes[which] = Process(self, f"c{next(self.names)}", RATES[which])

    def delete(self) -> None:
        if all(process.has_seen_it for process in self.processes):
            self.server.record = None

    def leader_within(self, seconds: float) -> None:
        """With all well from now on, somebody leads in time and stays."""
        for process in self.processes:
            process.finish()
        end = self.now + seconds
        while not any(process.leadership.leads for process in self.processes):
            assert self.now < end, "nobody leads"
            for process in self.processes:
                process.step("fine")
                process.finish()
            self.passes(TERMS.retry)
        self.check()


which = st.integers(0, len(RATES) - 1)
fates = st.sampled_from(["fine", "fine", "fine", "fine", "request lost", "answer lost"])
events = st.one_of(
    st.tuples(st.just("step"), which, fates),
    st.tuples(st.just("step"), which, fates),
    st.tuples(st.just("step"), which, fates),
    st.tuples(st.just("round"), which, st.integers(1, 4)),
    st.tuples(st.just("time"), st.sampled_from([MOMENT, 0.5, 1.0, 2.0, 6.0, 7.0, 8.5, 60.0])),
    st.tuples(st.just("time"), st.floats(MOMENT, 3.0)),
    st.tuples(st.just("restart"), which),
    st.tuples(st.just("delete")),
    st.tuples(st.just("release"), which),
    st.tuples(st.just("freeze"), st.booleans()),
)


def play(world: World, history: list[tuple[Any, ...]]) -> None:
    plays: dict[str, Callable[..., None]] = {
        "step": world.step,
        "round": world.rounds,
        "time": world.passes,
        "restart": world.restart,
        "delete": world.delete,
        "release": world.release,
        "freeze": world.freeze,
    }
    for name, *arguments in history:
        plays[name](*arguments)
        world.check()


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(events, min_size=5, max_size=80))
def test_never_two_lead_and_one_does_in_time(history: list[tuple[Any, ...]]) -> None:
    world = World()
    play(world, history)
    world.server.frozen = False
    world.leader_within(TERMS.duration / min(RATES) + 2 * TERMS.retry)


# --- each rule is needed

FIRST, LAST = 0, 2
"""The candidates whose clocks are the slowest and the fastest."""
LEADS = ("round", FIRST, 1)
ASKS = ("step", FIRST, "fine")
LOOKS = [("step", LAST, "fine")] * 3
EXPIRED = TERMS.duration / max(RATES) + 0.01
"""Seconds until the fastest takes what has not changed."""
RENEWS_AS_ANOTHER_LOOKS = [LEADS, ASKS, ASKS, *LOOKS]


class CertainForTooLong(Candidate):
    def wrote(self, record: Record, began: float, now: float) -> "CertainForTooLong":
        return super().wrote(record, began + self.terms.margin, now)


class CertainSinceTheAnswer(Candidate):
    def wrote(self, record: Record, began: float, now: float) -> "CertainSinceTheAnswer":  # noqa: ARG002
        return super().wrote(record, now, now)


class CertainByWhatNobodySees(Candidate):
    def wrote(self, record: Record, began: float, now: float) -> "CertainByWhatNobodySees":
        return replace(super().wrote(record, began, now), until=began + self.terms.duration - self.terms.margin)


class TakesWhatWasDeleted(Candidate):
    def sees(self, record: Record | None, now: float) -> "TakesWhatWasDeleted":
        return super().sees(record, now) if record else replace(super().sees(record, now), since=-inf)


class DoesNotWait(Candidate):
    def may_write(self, now: float) -> bool:  # noqa: ARG002
        return self.since is not None


class CountsOn(Candidate):
    def sees(self, record: Record | None, now: float) -> "CountsOn":
        return super().sees(record, now) if self.since is None else replace(super().sees(record, now), since=self.since)


MUTANTS: list[tuple[type[Candidate], list[tuple[Any, ...]]]] = [
    (CertainForTooLong, [*RENEWS_AS_ANOTHER_LOOKS, ASKS, ("time", EXPIRED), ("round", LAST, 1)]),
    (CertainSinceTheAnswer, [*RENEWS_AS_ANOTHER_LOOKS, ("time", EXPIRED - 1), ASKS, ("time", 1.0), ("round", LAST, 1)]),
    (
        CertainByWhatNobodySees,
        [LEADS, *LOOKS, ("freeze", True), *[("round", FIRST, 1)] * 9, ("time", 0.1), ("round", LAST, 1)],
    ),
    (TakesWhatWasDeleted, [LEADS, ("round", 1, 1), ("round", LAST, 1), ("delete",), ("round", LAST, 1)]),
    (DoesNotWait, [LEADS, ("round", LAST, 1)]),
    (CountsOn, [LEADS, *[("round", LAST, 1), ("round", FIRST, 1)] * 6]),
]


@pytest.mark.parametrize(("mutant", "history"), MUTANTS, ids=lambda each: getattr(each, "__name__", ""))
def test_each_rule_keeps_two_from_leading(
    mutant: type[Candidate], history: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    play(World(), history)
    monkeypatch.setattr(leadership, "Candidate", mutant)
    with pytest.raises(AssertionError, match="lead at once"):
        play(World(), history)


# --- in words


def held(now: float = 100.0) -> Candidate:
    free = Candidate("me").sees(None, now)
    return free.wrote(Record("me", "1"), began=now, now=now + 1)


def test_who_comes_first_leads_at_once() -> None:
    assert Candidate("me").sees(None, 0).may_write(0)
    assert not Candidate("me").may_write(0)


def test_a_leader_is_certain_from_the_moment_in_which_it_asked() -> None:
    assert held(100.0).until == 100 + TERMS.duration - TERMS.margin


def test_another_s_lease_is_taken_when_it_has_not_changed_for_its_duration() -> None:
    candidate, then = Candidate("me").sees(Record("you", "1"), 50), 50 + TERMS.duration
    assert not candidate.sees(Record("you", "1"), then - 0.1).may_write(then - 0.1)
    assert candidate.sees(Record("you", "1"), then).may_write(then)
    assert not candidate.sees(Record("you", "2"), then).may_write(then + TERMS.duration - 0.1)


def test_a_released_lease_is_taken_at_once() -> None:
    assert Candidate("me").sees(Record("you", "1"), 50).sees(Record("", "2"), 51).may_write(51)


def test_a_deleted_lease_is_made_anew_by_its_leader_and_waited_for_by_others() -> None:
    assert held(100).sees(None, 102).may_write(102)
    other = Candidate("me").sees(Record("you", "1"), 50).sees(None, 55)
    assert not other.may_write(55 + TERMS.duration - 0.1)
    assert other.may_write(55 + TERMS.duration)


def test_who_sees_another_lead_does_not() -> None:
    candidate = held(100).sees(Record("you", "2"), 101)
    assert candidate.until < 101
    assert not candidate.may_write(101)


def test_a_renewal_that_changed_nothing_is_none() -> None:
    candidate = held(100)
    assert candidate.wrote(Record("me", "1"), began=105, now=105) == candidate
