"""What goes in comes out, in whatever form; whatever else comes is refused in words."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from onceserve_serving.codec import rest
from onceserve_serving.errors import InvalidRequestError
from onceserve_serving.tensors import DTYPES, Array, InferenceRequest, Signature, TensorSpec

EVERY = sorted(DTYPES)
TEXTS = sorted(DTYPES.keys() - {"FP16"})


def signature(datatype: str, rank: int) -> Signature:
    spec = TensorSpec("x", datatype, (-1,) * rank)
    return Signature({"x": spec}, {"x": spec})


def tensors(datatype: str, *, text: bool) -> st.SearchStrategy[Array]:
    shapes = arrays.array_shapes(min_dims=0 if datatype == "INT64" else 1, max_dims=4, min_side=0, max_side=4)
    if datatype == "BYTES":
        elements = st.text(max_size=8).map(str.encode) if text else st.binary(max_size=8)
        return arrays.arrays(object, shapes, elements=elements, fill=st.nothing())
    finite = {"allow_nan": not text, "allow_infinity": not text} if datatype.startswith("FP") else {}
    return arrays.arrays(DTYPES[datatype], shapes, elements=finite)


def same(one: Array, other: Array) -> bool:
    if one.dtype == object:
        return one.shape == other.shape and one.tolist() == other.tolist()
    return one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()


def as_json(array: Array, datatype: str, *, nested: bool) -> bytes:
    rows = array if nested and array.ndim else array.ravel()
    data = [one.decode() for one in array.ravel()] if datatype == "BYTES" else rows.tolist()
    tensor = {"name": "x", "datatype": datatype, "shape": array.shape, "data": data}
    return orjson.dumps({"inputs": [tensor]})


def answered(array: Array, datatype: str, binary: frozenset[str]) -> tuple[bytes, int | None]:
    """The response's only output as the request's only input."""
    request = InferenceRequest(None, {}, ("x",), binary)
    (header, *tail), length = rest.encode("m", "1", request, [array], signature(datatype, array.ndim))
    [output] = orjson.loads(header)["outputs"]
    asked = orjson.dumps({"inputs": [output], "parameters": {"binary_data_output": True}})
    assert length == (len(header) if binary else None)
    return asked + b"".join(tail), len(asked) if binary else None


@pytest.mark.parametrize("datatype", TEXTS)
@given(data=st.data(), nested=st.booleans())
@settings(max_examples=40, deadline=None)
def test_what_goes_in_comes_out_bit_for_bit(datatype: str, nested: bool, data: Any) -> None:
    array = data.draw(tensors(datatype, text=True))
    known = signature(datatype, array.ndim)
    read = rest.decode(as_json(array, datatype, nested=nested), None, known).inputs["x"]
    assert same(read, array)
    for binary in (frozenset[str](), frozenset("x")):
        body, length = answered(read, datatype, binary)
        assert same(rest.decode(body, length, known).inputs["x"], array)


@pytest.mark.parametrize("datatype", EVERY)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_bytes_go_in_and_out_bit_for_bit(datatype: str, data: Any) -> None:
    array = data.draw(tensors(datatype, text=False))
    body, length = answered(array, datatype, frozenset("x"))
    assert same(rest.decode(body, length, signature(datatype, array.ndim)).inputs["x"], array)


leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=5)
trees = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4), max_leaves=12)
sizes = st.dictionaries(st.just("binary_data_size"), st.integers(-1, 20) | leaves)
fields = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("x") | leaves,
        "datatype": st.sampled_from(EVERY) | leaves,
        "shape": st.lists(st.integers(0, 4), max_size=4) | trees,
        "data": trees,
        "parameters": sizes | leaves,
    },
)
wishes = st.dictionaries(st.sampled_from(["binary_data", "binary_data_output"]), leaves) | leaves
outputs = st.lists(st.fixed_dictionaries({"name": st.just("x") | leaves}, optional={"parameters": wishes}), max_size=2)


@pytest.mark.parametrize("datatype", EVERY)
@given(
    tensor=fields,
    rest_of=st.fixed_dictionaries({}, optional={"outputs": outputs | leaves, "parameters": wishes, "id": leaves}),
    tail=st.none() | st.binary(max_size=20),
    rank=st.integers(0, 3),
)
@settings(max_examples=80, deadline=None)
def test_whatever_comes_is_taken_or_refused(
    datatype: str, tensor: dict[str, Any], rest_of: dict[str, Any], tail: bytes | None, rank: int
) -> None:
    header = orjson.dumps({"inputs": [tensor], **rest_of})
    try:
        request = rest.decode(header + (tail or b""), None if tail is None else len(header), signature(datatype, rank))
    except InvalidRequestError as error:
        assert str(error)  # noqa: PT017
    else:
        assert request.inputs["x"].dtype == DTYPES[datatype]
        assert list(request.inputs["x"].shape) == tensor["shape"]


@given(body=st.binary(max_size=60), length=st.none() | st.integers(0, 70))
@settings(max_examples=300, deadline=None)
def test_no_bytes_do_harm(body: bytes, length: int | None) -> None:
    with pytest.raises(InvalidRequestError):
        rest.decode(body, length, signature("FP32", 1))
