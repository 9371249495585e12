import json as stdlib
from typing import Any

import numpy as np
import pytest

from onceserve_serving.codec import rest
from onceserve_serving.errors import InvalidRequestError, UnrepresentableOutputError
from onceserve_serving.tensors import DTYPES, Array, InferenceRequest, Signature, TensorSpec

NO_NUMBERS: list[Any] = ["1.5", None, True, {}, [1]]
NO_INTEGERS: list[Any] = [1.0, "1", None, False, [1]]
OTHER_KINDS: dict[str, list[Any]] = {
    "FP32": NO_NUMBERS,
    "FP64": NO_NUMBERS,
    **dict.fromkeys(("INT8", "INT64", "UINT8", "UINT64"), NO_INTEGERS),
    "BOOL": [0, 1, "true", None, 1.0],
    "BYTES": [1, None, True, ["a"]],
}


def one_input(datatype: str = "FP32", shape: tuple[int, ...] = (-1, 2)) -> Signature:
    return Signature({"x": TensorSpec("x", datatype, shape)}, {"y": TensorSpec("y", "FP32", (-1,))})


def tensor(**changes: Any) -> dict[str, Any]:
    whole = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, -2], **changes}
    return {key: value for key, value in whole.items() if value is not ...}


def body(*tensors: Any, **rest: Any) -> bytes:
    return stdlib.dumps({"inputs": list(tensors), **rest}).encode()


def decode(raw: bytes, signature: Signature) -> InferenceRequest:
    return rest.decode(raw, None, signature)


def decode_one(signature: Signature, **changes: Any) -> Array:
    return decode(body(tensor(**changes)), signature).inputs["x"]


@pytest.mark.parametrize("data", [[1.5, -2, 0.1, 4], [[1.5, -2], [0.1, 4]]], ids=["flat", "nested"])
def test_rows_come_in_row_major_order_flat_or_nested(data: Any) -> None:
    array = decode_one(one_input(), shape=[2, 2], data=data)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, np.array([[1.5, -2], [0.1, 4]], dtype=np.float32))


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("BOOL", [True, False]),
        ("UINT8", [0, 255]),
        ("UINT16", [0, 65_535]),
        ("UINT32", [0, 2**32 - 1]),
        ("UINT64", [0, 2**64 - 1]),
        ("INT8", [-128, 127]),
        ("INT16", [-(2**15), 2**15 - 1]),
        ("INT32", [-(2**31), 2**31 - 1]),
        ("INT64", [-(2**63), 2**63 - 1]),
        ("FP32", [0.1, -0.0]),
        ("FP64", [0.1, 1e308]),
        ("BYTES", ["", "é\0🎈"]),
    ],
)
def test_every_datatype_takes_its_whole_range(datatype: str, data: list[Any]) -> None:
    array = decode_one(one_input(datatype), datatype=datatype, data=data)
    assert array.dtype == DTYPES[datatype]
    whole = [one.encode() for one in data] if datatype == "BYTES" else data
    assert array.tolist() == [np.array(whole, dtype=DTYPES[datatype]).tolist()]


@pytest.mark.parametrize(
    ("datatype", "element"),
    [
        *((name, value) for name, values in OTHER_KINDS.items() for value in values),
        ("FP32", 3.5e38),
        ("FP32", -3.5e38),
        ("UINT8", 256),
        ("UINT8", -1),
        ("INT8", 128),
        ("INT8", -129),
        ("UINT64", -1),
        ("UINT64", 2**64),
        ("INT64", 2**63),
        ("INT64", -(2**63) - 1),
    ],
)
def test_an_element_that_is_not_of_the_datatype_is_refused(datatype: str, element: Any) -> None:
    fitting = {"BOOL": True, "BYTES": "a"}.get(datatype, 1)
    with pytest.raises(InvalidRequestError, match=f"input 'x'.*{datatype}"):
        decode_one(one_input(datatype), datatype=datatype, data=[fitting, element])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "z"}, "unknown input 'z'; the model has 'x' (FP32 [-1, 2])"),
        ({"name": ...}, "unknown input None"),
        ({"name": ["x"]}, "unknown input ['x']"),
        ({"datatype": "FP64"}, "input 'x': datatype 'FP64' given, FP32 expected"),
        ({"datatype": ...}, "input 'x': datatype None given, FP32 expected"),
        ({"datatype": {}}, "input 'x': datatype {} given, FP32 expected"),
        ({"shape": [2]}, "input 'x': shape [2] given, [-1, 2] expected"),
        ({"shape": [1, 3]}, "input 'x': shape [1, 3] given, [-1, 2] expected"),
        ({"shape": [1, 2, 1]}, "input 'x': shape [1, 2, 1] given"),
        ({"shape": [2, 2]}, "input 'x': shape [2, 2] takes 4 elements, 2 are given"),
        ({"shape": [-1, 2]}, "input 'x': 'shape' must be a list of integers"),
        ({"shape": [True, 2]}, "input 'x': 'shape' must be a list of integers"),
        ({"shape": [1.0, 2]}, "input 'x': 'shape' must be a list of integers"),
        ({"shape": [2**31, 2]}, "input 'x': 'shape' must be a list of integers"),
        ({"shape": "12"}, "input 'x': 'shape' must be a list of integers"),
        ({"shape": ...}, "input 'x': 'shape' must be a list of integers"),
        ({"data": ...}, "input 'x': 'data' must be a list"),
        ({"data": "AAAA"}, "input 'x': 'data' must be a list"),
        ({"data": [[1, 2], [3, 4]]}, "input 'x': nested 'data' does not have the shape [1, 2]"),
        ({"data": [[1, 2, 3]]}, "input 'x': nested 'data' does not have the shape [1, 2]"),
        ({"shape": [2, 2], "data": [[1, 2], [3]]}, "input 'x': nested 'data' does not have the shape [2, 2]"),
        ({"shape": [2, 2], "data": [[1, 2], 3]}, "input 'x': nested 'data' does not have the shape [2, 2]"),
        ({"data": [[[1], [2]]]}, "input 'x': 'data' must hold numbers for FP32"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused_in_words(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decode_one(one_input(), **changes)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b'{"inputs": [NaN]}', "the body is not JSON"),
        (b"\xff", "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b"[]", "the body must be a JSON object"),
        (b"null", "the body must be a JSON object"),
        (b"{}", "'inputs' must be a list of objects"),
        (b'{"inputs": {}}', "'inputs' must be a list of objects"),
        (b'{"inputs": [1]}', "'inputs' must be a list of objects"),
        (b'{"inputs": []}', "missing input 'x' (FP32 [-1, 2])"),
        (body(tensor(), tensor()), "input 'x' is given twice"),
        (body(tensor(), id=7), "'id' must be a string"),
        (body(tensor(), outputs={}), None),
        (body(tensor(), outputs=["y"]), "'outputs' must be a list of objects"),
        (body(tensor(), outputs=[{"name": "q"}]), "unknown output 'q'; the model has 'y' (FP32 [-1])"),
        (body(tensor(), outputs=[{"name": "y"}, {"name": "y"}]), "'outputs' names an output twice"),
    ],
)
def test_a_body_that_is_no_request_is_refused_in_words(raw: bytes, message: str | None) -> None:
    if message is None:
        assert decode(raw, one_input()).outputs == ("y",)
        return
    with pytest.raises(InvalidRequestError) as caught:
        decode(raw, one_input())
    assert message in str(caught.value)


def test_outputs_select_and_order() -> None:
    specs = {name: TensorSpec(name, "FP32", ()) for name in ("a", "b", "c")}
    signature = Signature(one_input().inputs, specs)
    asked = [{"name": "c", "parameters": {"classification": 1}}, {"name": "a"}]
    assert decode(body(tensor(), outputs=asked), signature).outputs == ("c", "a")
    assert decode(body(tensor()), signature).outputs == ("a", "b", "c")


def test_parameters_and_unknown_members_are_tolerated() -> None:
    request = decode(body(tensor(parameters={"k": 1}), parameters={"p": []}, id="q", later=1), one_input())
    assert request.id == "q"


def test_fp16_is_refused_in_both_directions() -> None:
    with pytest.raises(InvalidRequestError, match="input 'x': FP16 has no JSON form"):
        decode_one(one_input("FP16"), datatype="FP16")
    signature = Signature(one_input().inputs, {"y": TensorSpec("y", "FP16", ())})
    for rest_of in ({}, {"outputs": [{"name": "y"}]}, {"parameters": {"binary_data_output": False}}):
        with pytest.raises(InvalidRequestError, match="output 'y' is FP16"):
            decode(body(tensor(), **rest_of), signature)


@pytest.mark.parametrize("shape", [[0, 2], [0, 2**31 - 1], [0, *[2**31 - 1] * 5], [0] + [1] * 70])
def test_empty_tensors_are_taken_or_refused_never_crash(shape: list[int]) -> None:
    try:
        array = decode_one(one_input(shape=()), shape=shape, data=[])
    except InvalidRequestError as error:
        assert "too large" in str(error)  # noqa: PT017
    else:
        assert list(array.shape) == shape


def test_a_scalar_has_one_element_and_no_shape() -> None:
    assert decode_one(one_input("INT64", ()), datatype="INT64", shape=[], data=[7]).tolist() == 7


def encode(array: Array, datatype: str, identifier: str | None = None) -> Any:
    signature = Signature({}, {"y": TensorSpec("y", datatype, ())})
    request = InferenceRequest(identifier, {}, ("y",))
    [piece], header_length = rest.encode("risk", "3", request, [array], signature)
    assert header_length is None
    return stdlib.loads(bytes(piece))


def test_a_response_has_the_protocols_form() -> None:
    array = np.array([[0.1, 2], [3, 4]], dtype=np.float32).T
    assert encode(array, "FP32", "q1") == {
        "model_name": "risk",
        "model_version": "3",
        "id": "q1",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 2], "data": [0.1, 3.0, 2.0, 4.0]}],
    }


def test_no_id_is_made_up() -> None:
    assert "id" not in encode(np.ones(1, dtype=np.float32), "FP32")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_json_does_not_have_is_an_error_that_names_the_output(value: float, dtype: Any) -> None:
    with pytest.raises(UnrepresentableOutputError, match="output 'y' holds NaN or infinity"):
        encode(np.array([1, value], dtype=dtype), "FP32")
