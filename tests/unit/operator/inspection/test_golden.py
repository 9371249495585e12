import gzip
import json
import math
import struct
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from onceserve_operator.api.rollout import GoldenRequest, Tensor
from onceserve_operator.domain import Verdict
from onceserve_operator.inspection import golden
from onceserve_operator.inspection.calls import NoAnswerError

SHA = "ab" * 32
X = Tensor(name="x", datatype="FP32", shape=[1], data=[1])


def tensor(name: str, datatype: str, data: list[Any], shape: list[int] | None = None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(data)] if shape is None else shape, "data": data}


def judge(given: Any, requests: Sequence[GoldenRequest], sha256: str | None) -> Verdict:
    return golden.judge(json.dumps(given).encode(), requests, sha256)


def answer(*outputs: dict[str, Any], finite: bool = True, **more: Any) -> dict[str, Any]:
    result = {"outputs": list(outputs), "finite": finite}
    return {"name": "m", "version": "r", "sha256": SHA, "smoke": result, "answers": [result], **more}


def request(*expected: dict[str, Any], tolerance: str = "0") -> GoldenRequest:
    return GoldenRequest(inputs=[X], expected=[Tensor(**each) for each in expected], tolerance=tolerance)


def wrong(got: dict[str, Any], expected: dict[str, Any], tolerance: str = "0") -> str | None:
    """What is told of an output; None where it is as expected."""
    verdict = judge(answer(got), [request(expected, tolerance=tolerance)], SHA)
    if verdict.problem is None:
        return None
    assert verdict.problem.reason == golden.WRONG_ANSWER
    assert verdict.problem.permanent
    return verdict.problem.message


def problem(given: Any, *requests: GoldenRequest, sha256: str | None = SHA) -> tuple[str, str]:
    found = judge(given, requests, sha256).problem
    assert found is not None
    return found.reason, found.message


def test_a_right_answer_is_no_problem_and_tells_the_digest() -> None:
    y = tensor("y", "FP32", [0.5, 2])
    assert judge(answer(y), [request(y)], SHA) == Verdict(SHA)
    assert judge(answer(y), [request(y)], None) == Verdict(SHA)
    assert judge(answer(y), [request(y)], SHA.upper()) == Verdict(SHA)


def test_the_digest_comes_before_the_smoke_test_and_that_before_answers() -> None:
    bad = answer(tensor("y", "FP32", [1]), smoke={"error": "no memory"})
    expected = request(tensor("y", "FP32", [2]))
    assert problem(bad, expected, sha256="cd" * 32) == (
        "DigestMismatch",
        f"The pod has loaded a model with the SHA-256 {SHA}, expected is {'cd' * 32}",
    )
    assert problem(bad, expected) == (
        "SmokeTestFailed",
        "The model fails on an example of its own inputs: no memory",
    )
    del bad["smoke"]["error"]
    bad["smoke"] = {"outputs": [], "finite": False}
    assert problem(bad, expected)[0] == "WrongAnswer"


def test_the_first_request_that_is_wrong_is_named() -> None:
    right, off = tensor("y", "INT64", [1]), tensor("y", "INT64", [2])
    bad = answer(right)
    bad["answers"] *= 3
    assert problem(bad, request(right), request(off), request(off)) == (
        "WrongAnswer",
        'Request 2: output "y" at [0]: got 1, expected 2, tolerance 0',
    )


def test_a_place_has_an_index_for_each_dimension() -> None:
    got = tensor("y", "FP32", [1, 2, 3, 4, 5, 6], [2, 3])
    expected = tensor("y", "FP32", [1, 2, 3, 4, 5.5, 7], [2, 3])
    assert wrong(got, expected, "0.01") == 'Request 1: output "y" at [1, 1]: got 5, expected 5.5, tolerance 0.01'
    assert wrong(tensor("y", "FP32", [1], []), tensor("y", "FP32", [2], [])) == (
        'Request 1: output "y" at []: got 1, expected 2, tolerance 0'
    )


@pytest.mark.parametrize(
    ("got", "words"),
    [
        (tensor("z", "FP32", [1]), 'no output "y", there are: z'),
        (tensor("y", "FP64", [1]), 'output "y" has datatype FP64, expected FP32'),
        (tensor("y", "FP32", [1], [1, 1]), 'output "y" has shape [1, 1], expected [1]'),
        (tensor("y", "FP32", [1, 2], [1]), 'output "y" has 2 values, its shape [1] holds 1'),
        (tensor("y", "FP32", ["1"]), "output \"y\" at [0]: got '1', expected 1, tolerance 0"),
        (tensor("y", "FP32", [True]), 'output "y" at [0]: got True, expected 1, tolerance 0'),
        (tensor("y", "FP32", [None]), 'output "y" at [0]: got null, expected 1, tolerance 0'),
        ({**tensor("y", "FP32", []), "shape": [1]}, 'output "y" has 0 values, its shape [1] holds 1'),
        ({"name": "y", "datatype": "FP32", "shape": [1]}, 'output "y" has 0 values, its shape [1] holds 1'),
    ],
)
def test_another_form_is_a_wrong_answer(got: dict[str, Any], words: str) -> None:
    assert wrong(got, tensor("y", "FP32", [1])) == f"Request 1: {words}"


def test_what_is_expected_must_fit_its_own_shape_and_datatype() -> None:
    got = tensor("y", "UINT8", [1])
    assert wrong(got, tensor("y", "UINT8", [1, 2], [1])) == (
        'Request 1: output "y": 2 values are expected, its shape [1] holds 1'
    )
    for data in ([300], [-1], [1.5], [None], ["1"], [True]):
        assert wrong(got, tensor("y", "UINT8", data), "1000") is not None


def test_further_outputs_are_not_looked_at() -> None:
    y, z = tensor("y", "FP32", [1]), tensor("z", "FP32", [None])
    assert judge(answer(z, y, finite=False), [request(y)], SHA).problem is None


def test_without_expected_outputs_only_errors_and_infinite_numbers_are_wrong() -> None:
    assert judge(answer(tensor("y", "FP32", [1])), [request()], SHA).problem is None
    assert problem(answer(finite=False), request()) == ("WrongAnswer", "Request 1: an output is not finite")
    failed = answer(answers=[{"error": "bad input"}])
    assert problem(failed, request()) == ("WrongAnswer", "Request 1: no answer: bad input")
    assert problem(failed, request(tensor("y", "FP32", [1]))) == ("WrongAnswer", "Request 1: no answer: bad input")


@pytest.mark.parametrize("missing", [None, math.nan])
def test_no_number_matches_no_number_alone(missing: float | None) -> None:
    expected = tensor("y", "FP32", [missing])
    for same in (None, math.nan):
        assert wrong(tensor("y", "FP32", [same]), expected) is None
    for other in (0, 1.5, math.inf):
        assert wrong(tensor("y", "FP32", [other]), expected, "1e999") is not None
    assert wrong(tensor("y", "FP32", [missing]), tensor("y", "FP32", [0]), "1e999") is not None


def test_infinity_is_equal_to_itself_alone() -> None:
    for datatype in ("FP16", "FP32", "FP64"):
        expected = tensor("y", datatype, [math.inf])
        assert wrong(tensor("y", datatype, [math.inf]), expected) is None
        assert wrong(tensor("y", datatype, [1.5]), expected, "1e999") is not None
        assert wrong(tensor("y", datatype, [-math.inf]), expected, "1e999") is not None


def test_numbers_are_compared_in_the_precision_of_their_datatype() -> None:
    assert wrong(tensor("y", "FP32", [0.10000000149011612]), tensor("y", "FP32", [0.1])) is None
    assert wrong(tensor("y", "FP16", [0.0999755859375]), tensor("y", "FP16", [0.1])) is None
    assert wrong(tensor("y", "FP64", [0.10000000149011612]), tensor("y", "FP64", [0.1])) is not None


def test_what_is_no_number_is_exact() -> None:
    for datatype, one, other in (("BYTES", "a", "b"), ("BOOL", True, False)):
        assert wrong(tensor("y", datatype, [one]), tensor("y", datatype, [one])) is None
        assert wrong(tensor("y", datatype, [one]), tensor("y", datatype, [other]), "9") is not None
    assert wrong(tensor("y", "BOOL", [1]), tensor("y", "BOOL", [True])) is not None
    assert wrong(tensor("y", "BOOL", ["True"]), tensor("y", "BOOL", [True])) is not None


def test_integers_are_exact_beyond_the_precision_of_floats() -> None:
    high = 2**63 - 1
    assert wrong(tensor("y", "INT64", [high]), tensor("y", "INT64", [high])) is None
    assert wrong(tensor("y", "INT64", [high - 1]), tensor("y", "INT64", [high])) is not None
    assert wrong(tensor("y", "UINT64", [2**64 - 1]), tensor("y", "UINT64", [2**64 - 1])) is None


def test_an_integer_may_be_written_with_a_point() -> None:
    assert wrong(tensor("y", "INT8", [7]), tensor("y", "INT8", [7.0])) is None
    assert wrong(tensor("y", "INT8", [7]), tensor("y", "INT8", [7.5])) is not None


@given(
    st.sampled_from(["FP32", "FP64"]),
    st.floats(-1e6, 1e6, width=32),
    st.floats(-1e6, 1e6, width=32),
    st.sampled_from(["0", "1e-6", "0.01", "1", "10"]),
)
def test_the_tolerance_is_absolute_and_relative(datatype: str, a: float, e: float, tolerance: str) -> None:
    is_wrong = wrong(tensor("y", datatype, [a]), tensor("y", datatype, [e]), tolerance) is not None
    assert is_wrong == (abs(a - e) > float(tolerance) * (1 + abs(e)))


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-1000, 1000), st.integers(0, 3))
def test_integers_have_the_same_tolerance(e: int, off: int, tolerance: int) -> None:
    a = e + off
    assume(-(2**63) <= a < 2**63 and abs(e) < 2**40)
    is_wrong = wrong(tensor("y", "INT64", [a]), tensor("y", "INT64", [e]), str(tolerance)) is not None
    assert is_wrong == (abs(off) > tolerance * (1 + abs(e)))


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "FP32": st.floats(width=32),
    "FP64": st.floats(),
    "INT8": st.integers(-128, 127),
    "UINT64": st.integers(0, 2**64 - 1),
    "BOOL": st.booleans(),
    "BYTES": st.text(),
}


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, Any]:
    datatype = draw(st.sampled_from(sorted(VALUES)))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    size = math.prod(shape)
    return tensor("y", datatype, draw(st.lists(VALUES[datatype], min_size=size, max_size=size)), shape)


def nested(data: list[Any], shape: list[int]) -> list[Any]:
    if len(shape) <= 1:
        return data
    size = math.prod(shape[1:])
    return [nested(data[row * size : (row + 1) * size], shape[1:]) for row in range(shape[0])]


@given(tensors())
def test_a_tensor_matches_itself_flat_nested_and_by_way_of_json(one: dict[str, Any]) -> None:
    as_rows = {**one, "data": nested(one["data"], one["shape"])}
    by_json = json.loads(json.dumps(one))
    for expected in (one, as_rows, by_json):
        assert wrong(one, expected) is None


@given(tensors(), st.data())
def test_one_changed_value_is_found_where_it_is(one: dict[str, Any], data: st.DataObject) -> None:
    assume(one["data"])
    index = data.draw(st.integers(0, len(one["data"]) - 1))
    other = data.draw(VALUES[one["datatype"]])
    old = one["data"][index]
    assume(repr(other) != repr(old) and other != old)
    if one["datatype"].startswith("FP"):
        assume(struct.pack("<d", other) != struct.pack("<d", old))
    place = str([*map(int, _unravelled(index, one["shape"]))])
    changed = {**one, "data": [*one["data"][:index], other, *one["data"][index + 1 :]]}
    assert f"at {place}: got " in (wrong(changed, one) or "")


def _unravelled(index: int, shape: list[int]) -> list[int]:
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    return [index // stride % size for stride, size in zip(strides, shape, strict=True)]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "Input should be an object"),
        ({}, "sha256: Field required"),
        (answer(sha256=7), "sha256: Input should be a valid string"),
        (answer(smoke={}), "smoke: Value error, either 'error' or 'outputs' and 'finite' must be there"),
        (answer(answers=None), "answers: Input should be a valid array"),
        (answer(tensor("y", "FP32", [{}])), "smoke.outputs.0.data.0.bool: Input should be a valid boolean"),
        (answer(answers=[]), "answers: 0 for 1 requests"),
        (answer({"name": "y"}), "smoke.outputs.0.datatype: Field required"),
    ],
)
def test_an_answer_of_another_form_is_a_problem_in_words(given: Any, words: str) -> None:
    assert problem(given, request()) == ("VerificationFailed", f"The pod's answer is not of the agreed form: {words}")


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(JUNK, JUNK, st.lists(JUNK), st.sampled_from(["FP32", "INT64", "BYTES", "BOOL"]))
def test_whatever_a_pod_says_is_judged(top: Any, field: Any, data: list[Any], datatype: str) -> None:
    expected = request(tensor("y", datatype, [1, 2]))
    assert judge(top, [expected], SHA).problem is not None
    assert judge(answer(answers=field), [expected], SHA).problem is not None
    assert judge(answer(tensor("y", datatype, data, [2])), [expected], SHA).problem is not None or data == [1, 2]


def test_what_a_pod_says_is_told_in_short_however_long_or_large_it_is() -> None:
    huge = 10**4000
    expected = request(tensor("y", "FP64", [1]))
    for bad in (
        answer(smoke={"error": "x" * 100_000}),
        answer(tensor("y", "FP64", ["x" * 100_000])),
        answer(tensor("y", "FP64", [huge])),
        answer(tensor("y", "FP64", [1], [huge])),
        answer(tensor("y" * 100_000, "FP64", [1])),
        answer(sha256="x" * 100_000),
    ):
        _, message = problem(bad, expected)
        assert len(message) < 400


@pytest.mark.parametrize(
    "body",
    [b"", b"not json", b"\xff\xfe", gzip.compress(b"{}", mtime=0), b"[" * 100_000, b"9" * 10_000, b'{"sha256": "'],
)
def test_what_is_no_json_is_no_answer(body: bytes) -> None:
    with pytest.raises(NoAnswerError, match="it answered no JSON"):
        golden.judge(body, [], SHA)


@pytest.mark.parametrize("value", ["[]", "{}", "[[]]", '{"a": 1}'])
@pytest.mark.parametrize("where", ["answers", "outputs", "shape", "data", "more"])
def test_no_answer_takes_much_more_memory_than_its_bytes(where: str, value: str) -> None:
    """Lists and objects take twenty times as much as their text, and so do a million faults."""
    flood = "[" + ",".join([value] * (1_000_000 // (len(value) + 1))) + "]"
    parts = {"shape": "[1]", "data": "[1]", "more": "[]"}
    output = ", ".join(f'"{part}": {flood if part == where else fine}' for part, fine in parts.items())
    outputs = flood if where == "outputs" else f'[{{"name": "y", "datatype": "FP32", {output}}}]'
    result = f'{{"finite": true, "outputs": {outputs}}}'
    answers = flood if where == "answers" else f"[{result}]"
    body = f'{{"sha256": "{SHA}", "smoke": {result}, "answers": {answers}}}'.encode()
    tracemalloc.start()
    try:
        verdict = golden.judge(body, [request()], SHA)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (verdict.problem is None) == (where == "more")
    assert peak < 1_000_000
