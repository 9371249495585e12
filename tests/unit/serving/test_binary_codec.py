import json as stdlib
from typing import Any

import numpy as np
import pytest

from onceserve_serving.codec import rest
from onceserve_serving.errors import InvalidRequestError, UnrepresentableOutputError
from onceserve_serving.tensors import Array, InferenceRequest, Signature, TensorSpec

ROWS = np.array([[1.5, -2], [0.1, 4]], dtype=np.float32)


def one_input(datatype: str = "FP32", shape: tuple[int, ...] = (-1, 2)) -> Signature:
    return Signature({"x": TensorSpec("x", datatype, shape)}, {"y": TensorSpec("y", "FP32", (-1,))})


def tensor(size: Any, **changes: Any) -> dict[str, Any]:
    parameters = {"binary_data_size": size}
    whole = {"name": "x", "datatype": "FP32", "shape": [2, 2], "parameters": parameters, **changes}
    return {key: value for key, value in whole.items() if value is not ...}


def decode(tail: bytes, *tensors: dict[str, Any], signature: Signature | None = None, **rest_of: Any) -> Any:
    header = stdlib.dumps({"inputs": tensors, **rest_of}).encode()
    return rest.decode(header + tail, len(header), signature or one_input())


def test_a_tensor_is_read_from_behind_the_header() -> None:
    np.testing.assert_array_equal(decode(ROWS.tobytes(), tensor(16)).inputs["x"], ROWS)


@pytest.mark.parametrize("padding", range(4))
def test_aligned_bytes_are_used_where_they_lie_and_others_never(padding: int) -> None:
    header = stdlib.dumps({"inputs": [tensor(16)]}).encode()
    header += b" " * (-len(header) % 4 + padding)
    body = np.frombuffer(header + ROWS.tobytes(), dtype=np.uint8).copy()
    array = rest.decode(body.data, len(header), one_input()).inputs["x"]
    assert array.flags.aligned
    assert np.shares_memory(array, body) == (padding == 0)
    np.testing.assert_array_equal(array, ROWS)


def test_json_and_binary_tensors_go_together() -> None:
    specs = {name: TensorSpec(name, kind, (-1,)) for name, kind in {"a": "INT8", "b": "BYTES", "c": "BOOL"}.items()}
    asked = decode(
        b"\x05\xff\x01\0",
        tensor(2, name="a", datatype="INT8", shape=[2]),
        {"name": "b", "datatype": "BYTES", "shape": [1], "data": ["é"]},
        tensor(2, name="c", datatype="BOOL", shape=[2]),
        signature=Signature(specs, specs),
        outputs=[{"name": "c"}, {"name": "b", "parameters": {"binary_data": True}}],
    )
    assert {name: array.tolist() for name, array in asked.inputs.items()} == {
        "a": [5, -1],
        "b": ["é".encode()],
        "c": [True, False],
    }
    assert (asked.outputs, asked.binary) == (("c", "b"), {"b"})

    (header, tail), length = rest.encode("m", "1", asked, [asked.inputs["c"], asked.inputs["b"]], Signature({}, specs))
    assert length == len(header)
    assert stdlib.loads(bytes(header))["outputs"] == [
        {"name": "c", "datatype": "BOOL", "shape": [2], "data": [True, False]},
        {"name": "b", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 6}},
    ]
    assert bytes(tail) == b"\x02\0\0\0\xc3\xa9"


@pytest.mark.parametrize(
    ("datatype", "shape", "tail"),
    [
        ("BYTES", [2], b"\0\0\0\0\x03\0\0\0a\0\xff"),
        ("BYTES", [0], b""),
        ("BYTES", [], b"\x01\0\0\0a"),
        ("FP32", [0, 3], b""),
        ("FP16", [2], b"\0\x3c\0\xfc"),
        ("INT64", [], b"\x07" + b"\0" * 7),
        ("BOOL", [3], b"\0\x01\x01"),
    ],
)
def test_bytes_come_back_as_they_went(datatype: str, shape: list[int], tail: bytes) -> None:
    spec = TensorSpec("x", datatype, ())
    signature = Signature({"x": spec}, {"x": spec})
    given = tensor(len(tail), datatype=datatype, shape=shape)
    asked = decode(tail, given, signature=signature, parameters={"binary_data_output": True})
    body, length = rest.encode("m", "1", asked, [asked.inputs["x"]], signature)
    assert length == len(body[0])
    assert bytes(body[1]) == tail
    [output] = stdlib.loads(bytes(body[0]))["outputs"]
    assert output == {**given, "parameters": {"binary_data_size": len(tail)}}


@pytest.mark.parametrize("datatype", ["FP32", "FP16"])
@pytest.mark.parametrize(
    ("chosen", "whole", "binary"),
    [
        (None, True, True),
        ([{"name": "x"}], True, True),
        ([{"name": "x", "parameters": {"binary_data": True}}], False, True),
        ([{"name": "x", "parameters": {"binary_data": True}}], ..., True),
        ([{"name": "x", "parameters": {"binary_data": False}}], True, False),
        ([{"name": "x", "parameters": {}}], False, False),
        (None, ..., False),
    ],
)
def test_an_outputs_own_wish_beats_the_requests(datatype: str, chosen: Any, whole: Any, binary: bool) -> None:
    spec = TensorSpec("x", datatype, ())
    parameters = {} if whole is ... else {"binary_data_output": whole}
    width = {"FP32": 4, "FP16": 2}[datatype]
    given = tensor(width, datatype=datatype, shape=[1])
    if datatype == "FP16" and not binary:
        with pytest.raises(InvalidRequestError, match="output 'x' is FP16"):
            decode(b"\0" * width, given, signature=Signature({"x": spec}, {"x": spec}), outputs=chosen)
        return
    signature = Signature({"x": spec}, {"x": spec})
    asked = decode(b"\0" * width, given, signature=signature, outputs=chosen, parameters=parameters)
    assert asked.binary == ({"x"} if binary else set())


@pytest.mark.parametrize(
    ("changes", "tail", "message"),
    [
        ({}, b"\0" * 15, "input 'x': 'binary_data_size' is 16, and 15 bytes are left"),
        ({}, b"\0" * 17, "1 bytes follow the last tensor"),
        ({"size": 15}, b"\0" * 15, "input 'x': shape [2, 2] of FP32 takes 16 bytes, 15 are given"),
        ({"size": 12, "shape": [2, 2]}, b"\0" * 12, "takes 16 bytes, 12 are given"),
        ({"size": 0, "shape": [2**31 - 1, 2]}, b"", "takes 17179869176 bytes, 0 are given"),
        ({"size": -1}, b"", "input 'x': 'binary_data_size' must be a number of bytes"),
        ({"size": 16.0}, b"\0" * 16, "must be a number of bytes"),
        ({"size": True}, b"\0", "must be a number of bytes"),
        ({"size": None}, b"", "must be a number of bytes"),
        ({"size": "16"}, b"\0" * 16, "must be a number of bytes"),
        ({"size": 10**18}, b"", "and 0 bytes are left"),
        ({"data": [1, 2, 3, 4]}, b"\0" * 16, "input 'x' has both 'data' and 'binary_data_size'"),
        ({"parameters": ...}, b"\0" * 16, "input 'x': 'data' must be a list"),
        ({"parameters": []}, b"", "'parameters' of input 'x' must be an object"),
        ({"parameters": {"shared_memory_region": "r"}}, b"", "input 'x' is in shared memory"),
        ({"datatype": "FP64"}, b"\0" * 16, "input 'x': datatype 'FP64' given"),
        ({"shape": [4]}, b"\0" * 16, "input 'x': shape [4] given"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(changes: dict[str, Any], tail: bytes, message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decode(tail, tensor(changes.pop("size", 16), **changes))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        (b"\x01\0\0\0a", "2 elements of BYTES take at least 8 bytes, 5 are given"),
        (b"\x01\0\0\0a\x02\0\0\0b", "input 'x': the bytes end within an element"),
        (b"\x04\0\0\0a\x02\0\0", "input 'x': the bytes end within an element"),
        (b"\xff\xff\xff\xff" + b"a" * 8, "input 'x': the bytes end within an element"),
        (b"\0" * 9, "input 'x': 1 bytes are left over after its last element"),
        (b"\x02\0\0\0abcd", "input 'x': the bytes end within an element"),
    ],
)
def test_strings_that_do_not_add_up_are_refused(tail: bytes, message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decode(tail, tensor(len(tail), datatype="BYTES", shape=[2]), signature=one_input("BYTES", (-1,)))
    assert message in str(caught.value)


def test_a_bool_is_0_or_1() -> None:
    with pytest.raises(InvalidRequestError, match="input 'x': a BOOL's byte must be 0 or 1"):
        decode(b"\x02", tensor(1, datatype="BOOL", shape=[1]), signature=one_input("BOOL", (-1,)))


@pytest.mark.parametrize("length", [3, 10**18])
def test_a_header_that_is_not_the_bodys_is_refused(length: int) -> None:
    with pytest.raises(InvalidRequestError, match=r"not JSON|Inference-Header-Content-Length is 10+, and the body has"):
        rest.decode(b'{"inputs": []}', length, one_input())


@pytest.mark.parametrize("rank", [33, 1_000, 100_000])
def test_a_shape_without_end_is_refused_at_once(rank: int) -> None:
    with pytest.raises(InvalidRequestError, match="more than 32 dimensions"):
        decode(b"", tensor(0, shape=[2**31 - 1] * rank), signature=one_input(shape=()))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"parameters": 1}, "'parameters' of the request must be an object"),
        ({"parameters": {"binary_data_output": 1}}, "'binary_data_output' of the request must be true or false"),
        ({"outputs": [{"name": "y", "parameters": "b"}]}, "'parameters' of output 'y' must be an object"),
        ({"outputs": [{"name": "y", "parameters": {"binary_data": "yes"}}]}, "'binary_data' of output 'y' must be"),
        ({"outputs": [{"name": "y", "parameters": {"shared_memory_region": "r"}}]}, "output 'y' is in shared memory"),
    ],
)
def test_a_wish_that_is_none_is_refused(members: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        decode(ROWS.tobytes(), tensor(16), **members)
    assert message in str(caught.value)


def encode(array: Array, datatype: str) -> bytes:
    signature = Signature({}, {"y": TensorSpec("y", datatype, ())})
    request = InferenceRequest(None, {}, ("y",), frozenset("y"))
    return bytes(rest.encode("m", "1", request, [array], signature).pieces[1])


def test_what_lies_otherwise_is_written_row_by_row() -> None:
    assert encode(ROWS.T, "FP32") == ROWS.T.tobytes()


def test_nan_goes_as_bytes() -> None:
    assert encode(np.array([np.nan]), "FP64") == np.array([np.nan]).tobytes()


def test_bytes_that_are_no_text_have_no_json() -> None:
    signature = Signature({}, {"y": TensorSpec("y", "BYTES", ())})
    with pytest.raises(UnrepresentableOutputError, match="output 'y' holds bytes that are no UTF-8"):
        rest.encode("m", "1", InferenceRequest(None, {}, ("y",)), [np.array([b"\xff"], dtype=object)], signature)
