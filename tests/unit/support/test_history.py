"""The checker of histories: it takes what keeps the promises and names what does not."""

import dataclasses
import random
from collections.abc import Mapping, Sequence

import pytest

from support.history import Answer, Call, Open, Result, Reused, broken, violations

FIRST = Answer(200, b"one", fresh=True, attempt=1)
REPLAY = dataclasses.replace(FIRST, fresh=False, attempt=None)
OTHER = dataclasses.replace(REPLAY, body=b"two")


def history(*results: Result, request: str = "r", key: str = "k") -> list[Call]:
    """Return calls one after another."""
    return [Call(key, request, 2.0 * at, 2.0 * at + 1, result) for at, result in enumerate(results)]


def together(*results: Result) -> list[Call]:
    """Return calls at the same time."""
    return [Call("k", "r", 0.0, 10.0 + at, result) for at, result in enumerate(results)]


def of_another(result: Result, at: float = 100.0) -> list[Call]:
    return [Call("k", "another", at, at + 1, result)]


GOOD: Mapping[str, Sequence[Call]] = {
    "asked once": history(FIRST),
    "replayed": history(FIRST, REPLAY, REPLAY),
    "refused, unheard, then answered": history(Open.REFUSED, Open.UNHEARD, FIRST),
    "the first answer was never heard": history(Open.UNHEARD, REPLAY),
    "a call that was cut off after the answer": history(FIRST, Open.UNHEARD, REPLAY),
    "an error is an answer": history(Answer(500, b"no", fresh=True, attempt=2), Answer(500, b"no", fresh=False)),
    "two at once": together(REPLAY, FIRST),
    "the other request is refused": history(FIRST, REPLAY) + of_another(Reused()),
    "another request came first, unheard": of_another(Reused(), at=0.5) + history(Open.UNHEARD, REPLAY),
}

BAD: Mapping[str, tuple[Sequence[Call], set[str]]] = {
    "another body": (history(FIRST, OTHER), {"divergent"}),
    "another status": (history(FIRST, dataclasses.replace(REPLAY, status=500)), {"divergent"}),
    "two replays that differ": (history(Open.UNHEARD, REPLAY, OTHER), {"divergent"}),
    "two answers at once, both fresh": (together(FIRST, FIRST), {"double"}),
    "run again after its answer": (history(FIRST, FIRST), {"double", "lost"}),
    "run again, and the first was a replay": (history(REPLAY, FIRST), {"lost"}),
    "its own request is refused after its answer": (history(FIRST, Reused()), {"lost"}),
    "another request gets the answer": (history(FIRST) + of_another(REPLAY), {"another"}),
    "another request is run": (
        history(FIRST) + of_another(dataclasses.replace(FIRST, body=b"two")),
        {"another", "divergent", "double", "lost"},
    ),
    "never answered": (history(Open.REFUSED, Open.UNHEARD), {"answered"}),
}


@pytest.mark.parametrize("calls", GOOD.values(), ids=GOOD.keys())
def test_what_keeps_the_promises_is_taken(calls: Sequence[Call]) -> None:
    assert violations(calls) == []


@pytest.mark.parametrize(("calls", "promises"), BAD.values(), ids=BAD.keys())
def test_what_breaks_one_is_named(calls: Sequence[Call], promises: set[str]) -> None:
    found = violations(calls)
    assert set(broken(found)) == promises
    assert {violation.key for violation in found} == {"k"}


@pytest.mark.parametrize(
    ("ledger", "promises"),
    [
        ({"k": [1]}, set()),
        ({"k": [1], "nobody heard of it": [2]}, set()),
        ({"k": [1, 1]}, {"double"}),
        ({}, {"lost"}),
        ({"k": []}, {"lost", "divergent"}),
        ({"k": [2]}, {"divergent"}),
    ],
)
def test_the_ledger_is_held_against_the_answers(ledger: dict[str, list[int]], promises: set[str]) -> None:
    assert set(broken(violations(history(FIRST, REPLAY), ledger))) == promises


def test_one_bad_call_among_many_good_ones_is_found() -> None:
    numbers = random.Random(7)
    calls = [call for key in range(300) for call in history(Open.UNHEARD, FIRST, REPLAY, key=str(key))]
    assert violations(calls) == []
    bad = numbers.choice([call for call in calls if call.result == REPLAY])
    calls[calls.index(bad)] = dataclasses.replace(bad, result=OTHER)
    numbers.shuffle(calls)
    assert [(found.promise, found.key) for found in violations(calls)] == [("divergent", bad.key)]
