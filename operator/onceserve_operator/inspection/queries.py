"""What a Prometheus is asked, and whether its answers hold the bounds."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Final

from onceserve_operator.api.rollout import PrometheusQuery
from onceserve_operator.domain import Manifest, Measured, Problem
from onceserve_operator.inspection.measurement import combine

QUERY_TOO_HIGH: Final = "QueryTooHigh"

_VARIABLE: Final = re.compile(r"\$(namespace|name|revision|stable)\b")
_NO_NUMBER: Final = {"matrix": "a range vector", "string": "a string"}
_BAD_QUERY: Final = "bad_data"
_ERRORS: Final = frozenset({_BAD_QUERY, "canceled", "execution", "internal", "timeout", "unavailable"})


def fill(query: str, variables: Mapping[str, str]) -> str:
    """Return a query with `$namespace`, `$name`, `$revision` and `$stable` filled in."""
    return _VARIABLE.sub(lambda found: variables[found[1]], query)


def read(answer: Manifest) -> float:
    """Return the number that a Prometheus answered. Raises ValueError, in words, where it is not just one."""
    try:
        data = answer["data"]
        kind, result = data["resultType"], data["result"]
        unfit = _NO_NUMBER.get(kind)
        values = [] if unfit else [result] if kind == "scalar" else [series["value"] for series in result]
        numbers = [float(value) for _, value in values]
    except (KeyError, TypeError, ValueError):
        raise ValueError("it answered in another form than Prometheus does for an instant query") from None
    if unfit:
        raise ValueError(f"{unfit} instead of one number")
    if len(numbers) != 1:
        raise ValueError(f"{len(numbers)} results instead of one" if numbers else "no result")
    return numbers[0]


def explanation(answer: Manifest) -> str:
    """Return why a Prometheus gave no result; nothing where the answer is not of its form.

    Its words are told where they are about the text of the query alone: others have labels of what it knows.
    """
    match answer:
        case {"status": "error", "errorType": str(kind), "error": str(words)} if kind in _ERRORS:
            return words if kind == _BAD_QUERY else kind
    return ""


def judge(queries: Sequence[PrometheusQuery], results: Mapping[str, float | str]) -> Measured:
    """Judge the results of queries by their text: numbers, or why there is none."""
    return combine(_judged(query, results.get(query.query, "not asked yet")) for query in queries)


def _judged(query: PrometheusQuery, result: float | str) -> Measured:
    if isinstance(result, str):
        return Measured(f"{query.name} is not judged: {result}")
    if math.isnan(result):
        return Measured(f"{query.name} is not judged: not a number")
    if result > float(query.max):
        message = f"{query.name} is {result:g}, at most {query.max} is allowed"
        return Measured(message, Problem(QUERY_TOO_HIGH, message))
    return Measured(f"{query.name} is {result:g}, at most {query.max}")
