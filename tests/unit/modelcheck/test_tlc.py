import pytest

from modelcheck import cli, tlc
from modelcheck.errors import ModelCheckError
from modelcheck.models import LIVENESS, Model
from modelcheck.tlc import Result

PROTOCOL = Model("base", ("OneAnswer", "NoStolenRelease"), holds=True)
MUTANT = Model("mutant", ("OneAnswer",), flaw="respond first")
END = (
    "4,2864 states generated, 0 states left on queue.\n209 states generated, 71 distinct states found, 3 states left.\n"
)

HELD = f"Progress(3) at …: 41 states generated (41 s/min), 7 distinct states found\nNo error has been found.\n{END}"
INVARIANT = f"Error: Invariant OneAnswer is violated.\nState 1: <Initial predicate>\n\nState 2: <Start line 3>\n{END}"
ACTION = f"Error: Action property NoStolenRelease is violated.\nState 1: <Initial predicate>\nState 2: <Step>\n{END}"
LASSO = (
    "Error: Temporal properties were violated.\nState 1: <Initial predicate>\nState 2: <Start>\n"
    f"State 3: <Hear>\nBack to state 2: <Expire>\n{END}"
)


def test_what_holds() -> None:
    result = tlc.read(HELD, PROTOCOL, 1.5)
    assert result == Result(states=209, distinct=71, violated=None, steps=0, seconds=1.5)
    assert result.is_as_expected(PROTOCOL)
    assert not result.is_as_expected(MUTANT)


def test_a_violated_invariant() -> None:
    result = tlc.read(INVARIANT, MUTANT, 1.5)
    assert (result.violated, result.steps) == ("OneAnswer", 1)
    assert result.is_as_expected(MUTANT)
    assert not result.is_as_expected(PROTOCOL)


def test_a_mutant_that_breaks_something_else_is_not_as_expected() -> None:
    assert not tlc.read(ACTION, MUTANT, 1.5).is_as_expected(MUTANT)


def test_a_violated_property_of_behaviours() -> None:
    wedged = Model("wedged", ("Answered",), size=LIVENESS)
    result = tlc.read(LASSO, wedged, 1.5)
    assert (result.violated, result.steps) == ("Answered", 2)
    assert result.is_as_expected(wedged)


def test_output_without_an_end_is_an_error_and_shown() -> None:
    with pytest.raises(ModelCheckError, match="did not finish 'mutant':\nOut of memory"):
        tlc.read("Out of memory\n", MUTANT, 1.5)


def test_the_verdict_says_what_was_expected_where_it_differs() -> None:
    assert cli.verdict(PROTOCOL, tlc.read(HELD, PROTOCOL, 1)) == "holds"
    assert cli.verdict(MUTANT, tlc.read(INVARIANT, MUTANT, 1)) == "violates OneAnswer after 1 steps"
    assert cli.verdict(MUTANT, tlc.read(HELD, MUTANT, 1)) == "holds; EXPECTED to violate OneAnswer"
    assert cli.verdict(PROTOCOL, tlc.read(INVARIANT, PROTOCOL, 1)).endswith("; EXPECTED to hold")
