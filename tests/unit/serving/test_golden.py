from typing import Any

import numpy as np
import orjson
import pytest

from onceserve_serving.api import golden
from onceserve_serving.errors import ExecutionFailedError, InvalidRequestError
from onceserve_serving.tensors import DTYPES, Array, Signature, TensorSpec

NAN, INF = float("nan"), float("inf")


def signature(datatype: str = "FP32", shape: tuple[int, ...] = (-1, 2)) -> Signature:
    return Signature({"x": TensorSpec("x", datatype, shape)}, {"y": TensorSpec("y", datatype, shape)})


def tensor(**changes: Any) -> dict[str, Any]:
    whole = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, -2], **changes}
    return {key: value for key, value in whole.items() if value is not ...}


def decoded(its: Signature, *tensors: dict[str, Any]) -> Array:
    return golden.decode({"inputs": list(tensors)}, its).inputs["x"]


def told(array: Array, its: Signature) -> Any:
    """What is told of an output whose data is asked for."""
    return orjson.loads(orjson.dumps(golden.result(("y",), [array], its, {"y": list(array.shape)})))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b'{"requests": [NaN]}', "the body is not JSON"),
        (b"[]", "the body must be a JSON object with 'requests'"),
        (b"{}", "'requests' must be a list of objects"),
        (b'{"requests": null}', "'requests' must be a list of objects"),
        (b'{"requests": {}}', "'requests' must be a list of objects"),
        (b'{"requests": [1]}', "'requests' must be a list of objects"),
        (b'{"requests": [{}]}', "'requests[0].inputs' must be a list of objects"),
        (b'{"requests": [{"inputs": []}, {"inputs": "x"}]}', "'requests[1].inputs' must be a list of objects"),
        (b'{"requests": [{"inputs": [[]]}]}', "'requests[0].inputs' must be a list of objects"),
        (b'{"requests": [{"inputs": [], "data": ["y"]}]}', "'requests[0].data' must be an object of shapes by names"),
        (orjson.dumps({"requests": [{"inputs": []}] * 65}), "'requests' must be 64 at most, 65 are given"),
    ],
)
def test_a_body_of_another_form_is_refused_with_the_fields_name(body: bytes, words: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        golden.requests(body)
    assert words in str(caught.value)


def test_requests_come_in_their_order() -> None:
    asked = [{"inputs": [tensor(data=[number, 0])]} for number in range(64)]
    assert golden.requests(orjson.dumps({"requests": asked})) == asked
    assert golden.requests(b'{"requests": []}') == []


def test_a_request_is_decoded_as_a_callers_is_and_asks_for_all_outputs() -> None:
    request = golden.decode({"inputs": [tensor()], "outputs": [{"name": "none"}]}, signature())
    assert request.outputs == ("y",)
    np.testing.assert_array_equal(request.inputs["x"], np.array([[1.5, -2]], np.float32))


def test_halves_have_a_form_here() -> None:
    array = decoded(signature("FP16"), tensor(datatype="FP16", data=[[0.1, -65504]]))
    assert array.dtype == np.float16
    np.testing.assert_array_equal(array, np.array([[0.1, -65504]], np.float16))


def test_halves_come_beside_other_tensors_in_any_order() -> None:
    names = {"a": "FP16", "b": "FP32", "c": "FP16"}
    its = Signature({name: TensorSpec(name, datatype, (-1,)) for name, datatype in names.items()}, {})
    tensors = [tensor(name=name, datatype=names[name], shape=[1], data=[ord(name)]) for name in "cba"]
    inputs = golden.decode({"inputs": tensors}, its).inputs
    assert {name: (inputs[name].dtype, inputs[name].tolist()) for name in names} == {
        name: (DTYPES[datatype], [ord(name)]) for name, datatype in names.items()
    }


@pytest.mark.parametrize("datatype", ["FP32", "FP16"])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "z"}, "unknown input 'z'; the model has 'x'"),
        ({"name": ...}, "unknown input None"),
        ({"datatype": "INT8"}, "input 'x': datatype 'INT8' given"),
        ({"datatype": ...}, "input 'x': datatype None given"),
        ({"shape": [1, 3]}, "input 'x': shape [1, 3] given, [-1, 2] expected"),
        ({"shape": ...}, "input 'x': 'shape' must be a list of integers"),
        ({"shape": [2, 2]}, "input 'x': shape [2, 2] takes 4 elements, 2 are given"),
        ({"data": ["a", "b"]}, "input 'x': 'data' must hold numbers"),
        ({"data": [None, 1]}, "input 'x': 'data' must hold numbers"),
        ({"data": [1e39, 1]}, "input 'x': 'data' holds a number outside FP"),
        ({"data": 1}, "input 'x': 'data' must be a list"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_with_the_inputs_name(
    datatype: str, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decoded(signature(datatype), tensor(**{"datatype": datatype, **changes}))
    assert words in str(caught.value)


@pytest.mark.parametrize("number", [65520, -1e6])
def test_a_number_beyond_halves_is_refused(number: float) -> None:
    with pytest.raises(InvalidRequestError, match="'data' holds a number outside FP16"):
        decoded(signature("FP16"), tensor(datatype="FP16", data=[number, 1]))


@pytest.mark.parametrize("datatype", ["FP32", "FP16"])
@pytest.mark.parametrize("depth", [40, 900])
def test_data_that_is_nested_too_deep_is_refused(datatype: str, depth: int) -> None:
    nested = orjson.loads(b"[" * depth + b"1" + b"]" * depth)
    with pytest.raises(InvalidRequestError, match=r"does not have the shape|cannot be read: Recursion limit"):
        decoded(signature(datatype), tensor(datatype=datatype, data=nested))


def test_a_missing_input_and_one_given_twice_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="missing input 'x'"):
        decoded(signature())
    for datatype in ("FP32", "FP16"):
        with pytest.raises(InvalidRequestError, match="input 'x' is given twice"):
            decoded(signature(datatype), *[tensor(datatype=datatype)] * 2)


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
@pytest.mark.parametrize(("number", "written"), [(NAN, None), (INF, None), (-INF, None), (0.25, 0.25)])
def test_what_is_no_number_is_null_and_told(datatype: str, number: float, written: float | None) -> None:
    found = told(np.array([[1, number]], DTYPES[datatype]), signature(datatype))
    assert found == {
        "outputs": [{"name": "y", "datatype": datatype, "shape": [1, 2], "data": [1, written]}],
        "finite": written is not None,
    }


@pytest.mark.parametrize(
    ("datatype", "data"), [("INT64", [-(2**63), 1]), ("BOOL", [True, False]), ("BYTES", ["é", ""]), ("UINT8", [255, 0])]
)
def test_what_are_no_floats_is_finite(datatype: str, data: list[Any]) -> None:
    array = np.array([one.encode() if isinstance(one, str) else one for one in data], DTYPES[datatype])
    found = told(array.reshape(1, 2), signature(datatype))
    assert (found["outputs"][0]["data"], found["finite"]) == (data, True)


@pytest.mark.parametrize("shape", [(1, 3), (2,), (1, 2, 1), ()])
def test_a_shape_other_than_declared_is_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ExecutionFailedError) as caught:
        golden.result(("y",), [np.zeros(shape, np.float32)], signature(), {})
    assert str(caught.value) == f"output 'y' has the shape {list(shape)}, and the model declares [-1, 2] (-1: any)"


@pytest.mark.parametrize("shape", [(), (7,), (0, 3)])
def test_where_no_shape_is_declared_any_will_do(shape: tuple[int, ...]) -> None:
    assert told(np.zeros(shape, np.float32), signature(shape=()))["outputs"][0]["shape"] == list(shape)


def test_a_datatype_other_than_declared_is_an_error() -> None:
    with pytest.raises(ExecutionFailedError, match="output 'y' is of float64, and the model declares FP32"):
        golden.result(("y",), [np.zeros((1, 2))], signature(), {})


@pytest.mark.parametrize("data", [{}, {"y": [2, 1]}, {"y": []}, {"y": None}, {"z": [1, 2]}])
def test_data_that_is_not_asked_for_in_its_shape_is_not_written(data: dict[str, Any]) -> None:
    found = golden.result(("y",), [np.array([[1, NAN]], np.float32)], signature(), data)
    assert found == {"outputs": [{"name": "y", "datatype": "FP32", "shape": (1, 2)}], "finite": False}


def test_data_is_asked_for_by_output() -> None:
    both = {name: TensorSpec(name, "FP32", (-1,)) for name in "ab"}
    large, small = np.zeros(3_000_000, np.float32), np.ones(1, np.float32)
    found = orjson.dumps(golden.result(("a", "b"), [large, small], Signature({}, both), {"b": [1]}))
    assert orjson.loads(found)["outputs"] == [
        {"name": "a", "datatype": "FP32", "shape": [3_000_000]},
        {"name": "b", "datatype": "FP32", "shape": [1], "data": [1]},
    ]
