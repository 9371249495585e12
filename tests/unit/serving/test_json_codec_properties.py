from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from onceserve_serving.codec import json
from onceserve_serving.errors import InvalidRequestError
from onceserve_serving.tensors import DTYPES, Array, InferenceRequest, Signature, TensorSpec

DATATYPES = sorted(DTYPES.keys() - {"FP16"})


def signature(datatype: str, rank: int) -> Signature:
    spec = TensorSpec("x", datatype, (-1,) * rank)
    return Signature({"x": spec}, {"x": spec})


def tensors(datatype: str) -> st.SearchStrategy[Array]:
    shapes = arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)
    if datatype == "BYTES":
        return arrays.arrays(object, shapes, elements=st.text(max_size=8), fill=st.nothing())
    elements = {"allow_nan": False, "allow_infinity": False} if datatype.startswith("FP") else {}
    return arrays.arrays(DTYPES[datatype], shapes, elements=elements)


def same(one: Array, other: Array) -> bool:
    if one.dtype == object:
        return one.shape == other.shape and bool((one == other).all())
    return one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()


@pytest.mark.parametrize("datatype", DATATYPES)
@given(data=st.data(), nested=st.booleans())
@settings(max_examples=40, deadline=None)
def test_what_goes_in_comes_out_bit_for_bit(datatype: str, nested: bool, data: Any) -> None:
    array = data.draw(tensors(datatype))
    rows = array.tolist() if nested else array.ravel().tolist()
    tensor = {"name": "x", "datatype": datatype, "shape": array.shape, "data": rows}
    request = json.decode(orjson.dumps({"inputs": [tensor]}), signature(datatype, array.ndim))
    assert same(request.inputs["x"], array)

    body = json.encode("m", "1", request, [request.inputs["x"]], signature(datatype, array.ndim))
    [output] = orjson.loads(body)["outputs"]
    again = json.decode(orjson.dumps({"inputs": [output]}), signature(datatype, array.ndim))
    assert same(again.inputs["x"], array)


leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=5)
trees = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4), max_leaves=12)
fields = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("x") | leaves,
        "datatype": st.sampled_from(DATATYPES) | leaves,
        "shape": st.lists(st.integers(0, 4), max_size=4) | trees,
        "data": trees,
    },
)


@pytest.mark.parametrize("datatype", DATATYPES)
@given(tensor=fields, rank=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_whatever_comes_is_taken_or_refused(datatype: str, tensor: dict[str, Any], rank: int) -> None:
    try:
        request = json.decode(orjson.dumps({"inputs": [tensor]}), signature(datatype, rank))
    except InvalidRequestError as error:
        assert str(error)  # noqa: PT017
    else:
        assert isinstance(request, InferenceRequest)
        assert request.inputs["x"].dtype == DTYPES[datatype]
        assert list(request.inputs["x"].shape) == tensor["shape"]
