"""What callers saw of a service that promises one answer for each key, and where it broke its word; pure.

The first final answer that anybody got fixes the answer of its key. A call that was refused for now, cut off or given
up says nothing of it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, TypeAlias


@dataclass(frozen=True, slots=True)
class Answer:
    """A final answer; `fresh`: not marked as a replay; `attempt`: which run gave it, where that was told."""

    status: int
    body: bytes
    fresh: bool
    attempt: int | None = None

    @property
    def value(self) -> tuple[int, bytes]:
        """What must be the same for all who ask."""
        return self.status, self.body


class Open(Enum):
    """What says nothing of the answer: refused for now, or never heard, so that it may have run or run still."""

    REFUSED = "refused"
    UNHEARD = "unheard"


class Reused(NamedTuple):
    """The key was said to belong to another request."""


Result: TypeAlias = Answer | Reused | Open


@dataclass(frozen=True, slots=True)
class Call:
    """One call: of a request under a key, from its beginning to its end by one clock."""

    key: str
    request: str
    began: float
    ended: float
    result: Result


class Violation(NamedTuple):
    """A promise that was broken for a key."""

    promise: str
    key: str
    words: str


def violations(calls: Iterable[Call], ledger: Mapping[str, Sequence[int]] | None = None) -> list[Violation]:
    """Return where the promises were broken.

    `ledger` has for each key the attempts of its rows, for a service that keeps one. The promises: `divergent` answers
    there must not be, no key's answer is completed `double`, none is `lost` once given, no request gets the answer of
    `another`, and each is `answered` at last.
    """
    found = [violation for key, of_key in by_key(calls).items() for violation in _of_key(key, of_key)]
    return found if ledger is None else found + list(_of_ledger(by_key(calls), ledger))


def by_key(calls: Iterable[Call]) -> dict[str, list[Call]]:
    """Return the calls of each key in the order in which they ended."""
    keys: dict[str, list[Call]] = defaultdict(list)
    for call in sorted(calls, key=lambda call: call.ended):
        keys[call.key].append(call)
    return keys


def broken(found: Iterable[Violation]) -> Counter[str]:
    """Return how often each promise was broken."""
    return Counter(violation.promise for violation in found)


def _of_key(key: str, calls: Sequence[Call]) -> Iterator[Violation]:
    answered = [(call, call.result) for call in calls if isinstance(call.result, Answer)]
    if not answered:
        yield Violation("answered", key, f"none of {len(calls)} calls was answered")
        return
    first_call, first = answered[0]
    for call, answer in answered[1:]:
        if answer.value != first.value:
            yield Violation("divergent", key, f"{first.value} and then {answer.value}")
        if call.request != first_call.request:
            yield Violation("another", key, f"{call.request} got the answer of {first_call.request}")
    yield from _double(key, [answer for _, answer in answered])
    yield from _lost(key, first_call, calls)


def _double(key: str, answers: Sequence[Answer]) -> Iterator[Violation]:
    fresh = [answer for answer in answers if answer.fresh]
    if len(fresh) > 1:
        yield Violation("double", key, f"{len(fresh)} answers were not replays")


def _lost(key: str, first: Call, calls: Sequence[Call]) -> Iterator[Violation]:
    """Look at what was said to those who asked when the answer had been given."""
    for call in calls:
        if call.began <= first.ended:
            continue
        if isinstance(call.result, Answer) and call.result.fresh:
            yield Violation("lost", key, "it was run again after its answer had been given")
        if isinstance(call.result, Reused) and call.request == first.request:
            yield Violation("lost", key, "it was said to be another's after its answer had been given")


def _of_ledger(keys: Mapping[str, Sequence[Call]], ledger: Mapping[str, Sequence[int]]) -> Iterator[Violation]:
    for key, attempts in ledger.items():
        if len(attempts) > 1:
            yield Violation("double", key, f"the ledger has {len(attempts)} rows")
    for key, calls in keys.items():
        answers = [call.result for call in calls if isinstance(call.result, Answer)]
        if answers and not ledger.get(key):
            yield Violation("lost", key, "it was answered, and the ledger has no row")
        told = {answer.attempt for answer in answers if answer.fresh and answer.attempt is not None}
        if told - set(ledger.get(key, told)):
            yield Violation("divergent", key, f"attempt {told} was told, {ledger[key]} is in the ledger")
