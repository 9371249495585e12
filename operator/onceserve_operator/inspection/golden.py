"""Whether the answer of a verified pod is what is expected of it."""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Self, TypeVar

from pydantic import (
    BaseModel,
    FailFast,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

from onceserve_operator.api.rollout import GoldenRequest, Tensor
from onceserve_operator.domain import Problem, Verdict
from onceserve_operator.inspection.calls import NoAnswerError

DIGEST_MISMATCH: Final = "DigestMismatch"
SMOKE_TEST_FAILED: Final = "SmokeTestFailed"
WRONG_ANSWER: Final = "WrongAnswer"
VERIFICATION_FAILED: Final = "VerificationFailed"

_NO_JSON: Final = "json_invalid"
_LONGEST: Final = 200
"""Characters that are told of anything that the pod says: conditions and Events are short."""

Value = float | int | str
"""A value of a tensor; a bool as its name, so that no number equals it."""

T = TypeVar("T")
# One fault is told: of a list where all is wrong, a million would be kept.
_List = Annotated[list[T], FailFast()]
_Scalar = StrictBool | StrictInt | StrictFloat | StrictStr | None


class _Output(BaseModel):
    name: StrictStr
    datatype: StrictStr
    shape: _List[StrictInt]
    data: _List[_Scalar] = []


class _Result(BaseModel):
    outputs: _List[_Output] = []
    finite: StrictBool = False
    error: StrictStr | None = None

    @model_validator(mode="after")
    def _either(self) -> Self:
        if self.error is None and not {"outputs", "finite"} <= self.model_fields_set:
            raise ValueError("either 'error' or 'outputs' and 'finite' must be there")
        return self


class _Answer(BaseModel):
    sha256: StrictStr
    smoke: _Result
    answers: _List[_Result]


def judge(answer: bytes, requests: Sequence[GoldenRequest], expected_sha256: str | None) -> Verdict:
    """Judge what a pod answered to golden requests; JSON of another form is a problem as well.

    Raises NoAnswerError where it is no JSON: then it is none of a server that could be verified.
    """
    try:
        read = _Answer.model_validate_json(answer)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        if fault["type"] == _NO_JSON:
            raise NoAnswerError("it answered no JSON") from None
        words = ": ".join(filter(None, (".".join(map(str, fault["loc"])), fault["msg"])))
        return Verdict("", _unreadable(words))
    if len(read.answers) != len(requests):
        return Verdict(read.sha256, _unreadable(f"answers: {len(read.answers)} for {len(requests)} requests"))
    problem = (
        _digest_problem(read.sha256, expected_sha256)
        or _smoke_problem(read.smoke)
        or _answer_problem(requests, read.answers)
    )
    return Verdict(read.sha256, problem)


def _unreadable(words: str) -> Problem:
    return Problem(VERIFICATION_FAILED, f"The pod's answer is not of the agreed form: {_brief(words)}", permanent=True)


def _digest_problem(sha256: str, expected: str | None) -> Problem | None:
    if expected is None or sha256.lower() == expected.lower():
        return None
    message = f"The pod has loaded a model with the SHA-256 {_brief(sha256)}, expected is {expected}"
    return Problem(DIGEST_MISMATCH, message, permanent=True)


def _smoke_problem(smoke: _Result) -> Problem | None:
    # Whether its numbers are finite is not asked: an example may be one for which a sound model has none, as log(0).
    if smoke.error is None:
        return None
    message = f"The model fails on an example of its own inputs: {_brief(smoke.error)}"
    return Problem(SMOKE_TEST_FAILED, message, permanent=True)


def _answer_problem(requests: Sequence[GoldenRequest], answers: Sequence[_Result]) -> Problem | None:
    for number, (request, answer) in enumerate(zip(requests, answers, strict=True), start=1):
        if words := _difference(request, answer):
            return Problem(WRONG_ANSWER, f"Request {number}: {words}", permanent=True)
    return None


def _difference(request: GoldenRequest, result: _Result) -> str | None:
    """Say how an answer differs from the expected one; None where it does not."""
    if result.error is not None:
        return f"no answer: {_brief(result.error)}"
    if not request.expected:
        return None if result.finite else "an output is not finite"
    outputs = {output.name: output for output in result.outputs}
    tolerance = float(request.tolerance)
    return next(filter(None, (_mismatch(expected, outputs, tolerance) for expected in request.expected)), None)


def _mismatch(expected: Tensor, outputs: Mapping[str, _Output], tolerance: float) -> str | None:
    output = outputs.get(expected.name)
    if output is None:
        return f'no output "{expected.name}", there are: {_brief(", ".join(outputs) or "none")}'
    words = _unlike(output, expected) or _first_difference(output, expected, tolerance)
    return words and f'output "{expected.name}"{words}'


def _unlike(output: _Output, expected: Tensor) -> str | None:
    if output.datatype != expected.datatype:
        return f" has datatype {_brief(output.datatype)}, expected {expected.datatype}"
    if output.shape != expected.shape:
        return f" has shape {_listed(output.shape)}, expected {expected.shape}"
    return None


def _first_difference(output: _Output, expected: Tensor, tolerance: float) -> str | None:
    wanted, got = list(_flat(expected.data)), output.data
    size = math.prod(expected.shape)
    if len(wanted) != size:
        return f": {len(wanted)} values are expected, its shape {expected.shape} holds {size}"
    if len(got) != size:
        return f" has {len(got)} values, its shape {expected.shape} holds {size}"
    for index, (left, right) in enumerate(zip(got, wanted, strict=True)):
        a, e = _value(left, expected.datatype), _value(right, expected.datatype)
        if a is None or e is None or not _close(a, e, tolerance):
            place = _place(index, expected.shape)
            return f" at {place}: got {_shown(left)}, expected {_shown(right)}, tolerance {tolerance:g}"
    return None


def _close(a: Value, e: Value, tolerance: float) -> bool:
    if isinstance(a, str) or isinstance(e, str):
        return a == e
    if math.isnan(a) or math.isnan(e):
        return math.isnan(a) and math.isnan(e)
    if math.isinf(a) or math.isinf(e):
        return a == e
    return a == e or abs(a - e) <= tolerance * (1 + abs(e))


_PRECISION: Final = {"FP16": struct.Struct("<e"), "FP32": struct.Struct("<f"), "FP64": struct.Struct("<d")}


def _value(raw: object, datatype: str) -> Value | None:
    """Return a value as its datatype has it; None where it has none such."""
    if datatype in _PRECISION:
        return _floating(raw, _PRECISION[datatype])
    if datatype == "BOOL":
        return str(raw) if isinstance(raw, bool) else None
    if datatype == "BYTES":
        return raw if isinstance(raw, str) else None
    return _integer(raw, datatype)


def _floating(raw: object, precision: struct.Struct) -> float | None:
    if raw is None:
        return math.nan
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        return None
    # In the precision of the datatype, since one number is written with more or fewer digits by different programs.
    try:
        rounded: float = precision.unpack(precision.pack(raw))[0]
    except (OverflowError, struct.error):
        return math.inf if raw > 0 else -math.inf
    return rounded


def _integer(raw: object, datatype: str) -> int | None:
    if isinstance(raw, float) and raw.is_integer():
        raw = int(raw)
    if isinstance(raw, bool) or not isinstance(raw, int):
        return None
    bits = int(datatype.removeprefix("U").removeprefix("INT"))
    lowest = 0 if datatype.startswith("U") else -(1 << (bits - 1))
    return raw if lowest <= raw < lowest + (1 << bits) else None


def _flat(data: Sequence[Any]) -> Iterator[Any]:
    for item in data:
        if isinstance(item, list):
            yield from _flat(item)
        else:
            yield item


def _place(index: int, shape: Sequence[int]) -> list[int]:
    place: list[int] = []
    for size in reversed(shape):
        index, position = divmod(index, size)
        place.insert(0, position)
    return place


def _listed(shape: Sequence[int]) -> str:
    return _brief(f"[{', '.join(map(_shown, shape))}]")


def _shown(value: Value | None) -> str:
    if value is None:
        return "null"
    # Python refuses to write the digits of an integer that is too long.
    if isinstance(value, int) and value.bit_length() > _LONGEST:
        return "a number beyond all datatypes"
    return _brief(repr(value))


def _brief(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
