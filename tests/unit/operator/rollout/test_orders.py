from datetime import timedelta
from typing import Any

import pytest

from onceserve_operator.api.rollout import Refusal
from onceserve_operator.domain import Traffic
from onceserve_operator.rollout import machine, orders
from onceserve_operator.rollout.commands import Command, Verb, parse
from onceserve_operator.rollout.phases import Phase
from onceserve_operator.rollout.state import State
from onceserve_operator.rollout.steps import Wait, Weight
from unit.operator.rollout.situations import NOW, on_its_way, pods, situation

STEPS = (Weight(20), Wait(60), Weight(50), Wait(), Weight(100))
RESTING = State(stable="old", wanted="new")
REFUSED = (Refusal(revision="new", reason="WrongAnswer", message="wrong"),)


@pytest.mark.parametrize(
    ("value", "command"),
    [
        ("promote", Command(Verb.PROMOTE)),
        ("rollback risk-1 2026-01-01", Command(Verb.ROLLBACK, ("risk-1", "2026-01-01"))),
        ("promote-full\n7", Command(Verb.PROMOTE_FULL, ("7",))),
        ("Promote", None),
        ("", None),
        ("  ", None),
    ],
)
def test_a_command_is_a_verb_and_words(value: str, command: Command | None) -> None:
    assert parse(value) == command


@pytest.mark.parametrize(
    ("before", "command", "after"),
    [
        (on_its_way(Phase.PAUSED, step=1), "promote", {"phase": Phase.SHIFTING, "step": 2}),
        (on_its_way(Phase.PAUSED, step=2, held=Phase.SHIFTING), "promote", {"phase": Phase.SHIFTING, "step": 2}),
        (on_its_way(Phase.PAUSED, step=1, held=Phase.SHIFTING), "promote", {"phase": Phase.SHIFTING, "step": 2}),
        (on_its_way(Phase.PAUSED, held=Phase.VERIFYING), "promote", {"phase": Phase.VERIFYING, "held": None}),
        (on_its_way(Phase.SHIFTING, step=2), "promote-full", {"phase": Phase.SHIFTING, "step": 4}),
        (on_its_way(Phase.PAUSED, step=1), "promote-full", {"phase": Phase.SHIFTING, "step": 4}),
        (on_its_way(Phase.PAUSED, held=Phase.PREPARING), "promote-full", {"phase": Phase.PREPARING, "step": 4}),
        (on_its_way(Phase.PREPARING), "pause", {"phase": Phase.PAUSED, "held": Phase.PREPARING}),
        (on_its_way(Phase.SHIFTING, step=2), "pause", {"phase": Phase.PAUSED, "held": Phase.SHIFTING, "step": 2}),
        (on_its_way(Phase.PAUSED, step=1), "pause", {"phase": Phase.PAUSED, "held": Phase.SHIFTING, "step": 1}),
        (on_its_way(Phase.SHIFTING), "abort", {"phase": Phase.ABORTING, "revision": "new"}),
        (on_its_way(Phase.FINALIZING), "rollback", {"phase": Phase.ABORTING, "revision": "new"}),
        (on_its_way(Phase.FINALIZING), "rollback old", {"phase": Phase.ABORTING, "revision": "new"}),
        (State(Phase.ABORTED, stable="old", wanted="new", refused=REFUSED), "retry", {"refused": ()}),
        (State(stable="new", wanted="new"), "rollback", {"rollback_to": "old"}),
        (State(stable="new", wanted="new"), "rollback older", {"rollback_to": "older"}),
        (State(stable="old", wanted="new", refused=REFUSED, rollback_to="old"), "rollback new", {"rollback_to": None}),
    ],
)
def test_a_command_is_done_as_asked(before: State, command: str, after: dict[str, Any]) -> None:
    state, answer = orders.heed(before, situation(steps=STEPS, command=command))
    assert answer is not None
    assert (answer.heeded, answer.message) == (True, f"{command.split(maxsplit=1)[0]}: done as asked")
    assert {name: getattr(state, name) for name in after} == after
    assert state.command == command


@pytest.mark.parametrize(
    ("before", "command", "words"),
    [
        (RESTING, "promote", "promote: nothing is paused"),
        (RESTING, "promote-full", "promote-full: no traffic is shifting"),
        (on_its_way(Phase.PREPARING), "promote-full", "promote-full: no traffic is shifting"),
        (RESTING, "pause", "pause: nothing is on its way that could wait"),
        (on_its_way(Phase.PAUSED, held=Phase.SHIFTING), "pause", "pause: nothing is on its way that could wait"),
        (on_its_way(Phase.FINALIZING), "pause", "pause: nothing is on its way that could wait"),
        (RESTING, "abort", "abort: nothing is on its way"),
        (on_its_way(Phase.ABORTING), "abort", "abort: nothing is on its way"),
        (on_its_way(Phase.PREPARING, stable=None), "abort", "abort: there is no former revision to go back to"),
        (RESTING, "retry", "retry: no revision is refused"),
        (State(wanted="new"), "rollback", "rollback: there is no former revision to go back to"),
        (State(stable="new", wanted="new"), "rollback new", "rollback: there is no former revision to go back to"),
        (RESTING, "go", "'go' is no command: promote, promote-full, pause, abort, retry, rollback are"),
    ],
)
def test_a_command_that_means_nothing_now_is_answered_and_changes_nothing(
    before: State, command: str, words: str
) -> None:
    state, answer = orders.heed(before, situation(steps=STEPS, command=command))
    assert answer == orders.Answer(words, heeded=False)
    assert state == State(**{name: getattr(before, name) for name in State.__slots__} | {"command": command})


KNOWN = {"wanted": "risk-9fbdfd0e3c", "known": ("risk-9fbdfd0e3c", "risk-b9acde601d")}
SERVING = State(stable="risk-9fbdfd0e3c", wanted="risk-9fbdfd0e3c")


@pytest.mark.parametrize("typo", ["risk-b9acde601", "rosk-b9acde601d", "risk-B9ACDE601D"])
def test_who_names_a_revision_that_is_not_there_goes_back_to_no_other(typo: str) -> None:
    state, answer = orders.heed(SERVING, situation(**KNOWN, command=f"rollback {typo} 7"))
    words = f"rollback: '{typo}' is none of the revisions: risk-9fbdfd0e3c, risk-b9acde601d are"
    assert answer == orders.Answer(words, heeded=False)
    assert state.rollback_to is None


@pytest.mark.parametrize("word", ["1792982000", "2026-01-01", "again", "2026-01-01T10:00:00Z"])
def test_a_word_that_only_makes_a_command_differ_names_nothing(word: str) -> None:
    state, _ = orders.heed(SERVING, situation(**KNOWN, command=f"rollback {word}"))
    assert state.rollback_to == "risk-b9acde601d"


def test_a_command_that_is_too_long_is_not_kept() -> None:
    command = "promote " + "x" * 300
    state, answer = orders.heed(RESTING, situation(command=command))
    words = "a command has at most 256 characters, this one has 308"
    assert answer == orders.Answer(words, heeded=False)
    assert len(state.command or "") < 80
    assert orders.heed(state, situation(command=command)) == (state, None)
    assert orders.heed(state, situation(command=command + "x"))[1] is not None


def test_a_command_is_heeded_once() -> None:
    before = on_its_way(Phase.SHIFTING, command="pause 1")
    assert orders.heed(before, situation(command="pause 1")) == (before, None)
    assert orders.heed(before, situation()) == (before, None)


def test_who_goes_back_refuses_what_is_wanted_until_a_retry() -> None:
    served = situation(sets={"new": pods(4)}, traffic=Traffic("new"), command="rollback")
    state, _ = machine.advance(State(stable="new", wanted="new"), served)
    assert [each.revision for each in state.refused] == ["new"]
    state, _ = machine.advance(state, served)
    assert (state.phase, state.revision) == (Phase.PREPARING, "old")


def test_a_refused_command_stops_nothing() -> None:
    state, answer = machine.advance(State(stable="old", wanted="new"), situation(command="promote"))
    assert answer is not None
    assert not answer.heeded
    assert (state.phase, state.command) == (Phase.PREPARING, "promote")


def test_a_wait_counts_from_its_begin() -> None:
    before = on_its_way(Phase.PAUSED, step=1)
    sets = {"old": pods(4), "new": pods(1)}
    assert machine.advance(before, situation(steps=STEPS, sets=sets))[0].phase is Phase.SHIFTING
    early = situation(steps=STEPS, sets=sets, now=NOW - timedelta(seconds=1))
    assert machine.advance(before, early)[0].phase is Phase.PAUSED
