import math
from typing import Any

import pytest

from onceserve_operator.api.rollout import PrometheusQuery
from onceserve_operator.domain import Measured, Problem
from onceserve_operator.inspection import queries

VARIABLES = {"namespace": "ns", "name": "risk", "revision": "risk-2", "stable": "risk-1"}


def query(name: str = "errors", maximum: str = "0.5") -> PrometheusQuery:
    return PrometheusQuery(name=name, query=f"{name}()", max=maximum)


def test_variables_are_filled_in_and_nothing_else_is() -> None:
    text = 'f{ns="$namespace",n="$name",r="$revision",s="$stable",x="$names $other $ $$name"}'
    assert queries.fill(text, VARIABLES) == 'f{ns="ns",n="risk",r="risk-2",s="risk-1",x="$names $other $ $risk"}'


def answer(kind: str, result: Any) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": kind, "result": result}}


@pytest.mark.parametrize(("text", "number"), [("0.25", 0.25), ("+Inf", math.inf), ("1e3", 1000)])
def test_one_number_is_read(text: str, number: float) -> None:
    assert queries.read(answer("scalar", [1, text])) == number
    assert queries.read(answer("vector", [{"metric": {}, "value": [1, text]}])) == number


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (answer("vector", []), "no result"),
        (answer("vector", [{"value": [1, "1"]}, {"value": [1, "2"]}]), "2 results instead of one"),
        (answer("matrix", [{"values": [[1, "1"]]}]), "a range vector instead of one number"),
        (answer("string", [1, "x"]), "a string instead of one number"),
        (answer("vector", [{"metric": {}, "histogram": [1, {}]}]), "another form"),
        ({"data": {"resultType": [], "result": "1"}}, "another form"),
        (answer("scalar", None), "another form"),
        ({"data": []}, "another form"),
        ({}, "another form"),
    ],
)
def test_anything_else_is_refused_in_words(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        queries.read(given)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("bad_data", "what is wrong"),
        ("execution", "execution"),
        ("timeout", "timeout"),
        ("else", ""),
        (["bad_data"], ""),
    ],
)
def test_why_there_is_no_result_is_told_without_what_a_prometheus_knows(kind: Any, words: str) -> None:
    assert queries.explanation({"status": "error", "errorType": kind, "error": "what is wrong"}) == words


@pytest.mark.parametrize("given", [{}, {"error": "secret"}, {"status": "error", "errorType": "bad_data", "error": {}}])
def test_of_what_is_no_prometheus_nothing_is_told(given: dict[str, Any]) -> None:
    assert queries.explanation(given) == ""


def test_a_number_above_its_bound_is_a_problem() -> None:
    message = "errors is 0.75, at most 0.5 is allowed"
    assert queries.judge([query()], {"errors()": 0.75}) == Measured(message, Problem("QueryTooHigh", message))
    assert queries.judge([query()], {"errors()": math.inf}).problem is not None
    assert queries.judge([query()], {"errors()": 0.5}) == Measured("errors is 0.5, at most 0.5")


def test_what_is_no_number_is_told_and_not_judged() -> None:
    known: dict[str, float | str] = {"nan()": math.nan, "down()": "it did not answer within 3 s"}
    found = queries.judge([query("nan"), query("down"), query("late")], known)
    assert found == Measured(
        "nan is not judged: not a number; down is not judged: it did not answer within 3 s; "
        "late is not judged: not asked yet"
    )
