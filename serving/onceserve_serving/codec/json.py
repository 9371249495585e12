"""The protocol's JSON: request body to arrays, arrays to response body; pure.

Rows are checked and converted as whole lists, in C: no Python code runs per element.
"""

from collections.abc import Container, Mapping, Sequence
from itertools import chain
from math import prod
from reprlib import repr as brief
from typing import Any, Final

import numpy as np
import orjson

from onceserve_serving.errors import InvalidRequestError, UnrepresentableOutputError
from onceserve_serving.tensors import DTYPES, Array, InferenceRequest, Signature, TensorSpec

MAX_DIMENSION: Final = 2**31 - 1

_FLOATS: Final = frozenset({int, float})
ELEMENTS: Final[Mapping[str, tuple[frozenset[type], str]]] = {
    **{name: (frozenset({int}), "integers") for name in DTYPES if "INT" in name},
    "BOOL": (frozenset({bool}), "true and false"),
    "FP32": (_FLOATS, "numbers"),
    "FP64": (_FLOATS, "numbers"),
    "BYTES": (frozenset({str}), "strings"),
}
"""Per datatype the Python types that its JSON elements have, and their name for people."""


def decode(body: bytes, signature: Signature) -> InferenceRequest:
    """Return the request in a body, checked against the signature.

    Raises InvalidRequestError, naming the input and what was expected.
    """
    document = _document(body)
    inputs: dict[str, Array] = {}
    for tensor in _objects(document, "inputs"):
        spec = _spec(tensor, "input", signature.inputs)
        if spec.name in inputs:
            raise InvalidRequestError(f"input {spec.name!r} is given twice")
        inputs[spec.name] = _array(tensor, spec)
    if missing := signature.inputs.keys() - inputs.keys():
        raise InvalidRequestError(f"missing input{_listed(signature.inputs, missing)}")
    return InferenceRequest(_identifier(document), inputs, _outputs(document, signature))


def encode(model: str, version: str, request: InferenceRequest, arrays: Sequence[Array], signature: Signature) -> bytes:
    """Return the response body for the outputs that the request asked for.

    Raises UnrepresentableOutputError if JSON has no form for a value.
    """
    document: dict[str, Any] = {"model_name": model, "model_version": version}
    if request.id is not None:
        document["id"] = request.id
    document["outputs"] = [
        _tensor(signature.outputs[name], array) for name, array in zip(request.outputs, arrays, strict=True)
    ]
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequestError(f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidRequestError("the body must be a JSON object with 'inputs'")
    return document


def _objects(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = document.get(key)
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise InvalidRequestError(f"{key!r} must be a list of objects, one for each {key[:-1]}")
    return value


def _identifier(document: Mapping[str, Any]) -> str | None:
    identifier = document.get("id")
    if identifier is not None and not isinstance(identifier, str):
        raise InvalidRequestError("'id' must be a string")
    return identifier


def _spec(tensor: Mapping[str, Any], role: str, known: Mapping[str, TensorSpec]) -> TensorSpec:
    name = tensor.get("name")
    spec = known.get(name) if isinstance(name, str) else None
    if spec is None:
        raise InvalidRequestError(f"unknown {role} {brief(name)}; the model has{_listed(known, known.keys())}")
    return spec


def _listed(known: Mapping[str, TensorSpec], names: Container[str]) -> str:
    return " " + ", ".join(str(spec) for name, spec in known.items() if name in names)


def _outputs(document: Mapping[str, Any], signature: Signature) -> tuple[str, ...]:
    if not document.get("outputs"):
        return tuple(signature.outputs)
    names = tuple(_spec(one, "output", signature.outputs).name for one in _objects(document, "outputs"))
    if len(set(names)) < len(names):
        raise InvalidRequestError("'outputs' names an output twice")
    return names


def _array(tensor: Mapping[str, Any], spec: TensorSpec) -> Array:
    _check_datatype(tensor.get("datatype"), spec)
    shape = _shape(tensor.get("shape"), spec)
    data = tensor.get("data")
    if not isinstance(data, list):
        raise InvalidRequestError(f"input {spec.name!r}: 'data' must be a list")
    flat = _flat(data, shape, spec.name)
    if len(flat) != prod(shape):
        raise InvalidRequestError(
            f"input {spec.name!r}: shape {shape} takes {prod(shape)} elements, 'data' has {len(flat)}"
        )
    return _converted(flat, shape, spec)


def _check_datatype(datatype: object, spec: TensorSpec) -> None:
    if datatype != spec.datatype:
        raise InvalidRequestError(f"input {spec.name!r}: datatype {brief(datatype)} given, {spec.datatype} expected")
    if datatype not in ELEMENTS:
        raise InvalidRequestError(
            f"input {spec.name!r}: {datatype} has no JSON form and can only be sent as a binary tensor"
        )


def _shape(shape: object, spec: TensorSpec) -> list[int]:
    # bool is an int to isinstance, and `true` is no dimension.
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size <= MAX_DIMENSION for size in shape):
        raise InvalidRequestError(f"input {spec.name!r}: 'shape' must be a list of integers from 0 to {MAX_DIMENSION}")
    if spec.shape and not _fits(shape, spec.shape):
        raise InvalidRequestError(
            f"input {spec.name!r}: shape {brief(shape)} given, {list(spec.shape)} expected (-1: any)"
        )
    return shape


def _fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    return len(shape) == len(wanted) and all(want in (-1, size) for size, want in zip(shape, wanted, strict=True))


def _flat(data: list[Any], shape: Sequence[int], name: str) -> list[Any]:
    if not data or not isinstance(data[0], list):
        return data
    if len(data) != (shape[0] if shape else 1):
        raise _unlike(shape, name)
    for size in shape[1:]:
        if set(map(type, data)) - {list} or set(map(len, data)) - {size}:
            raise _unlike(shape, name)
        data = list(chain.from_iterable(data))
    return data


def _unlike(shape: Sequence[int], name: str) -> InvalidRequestError:
    return InvalidRequestError(f"input {name!r}: nested 'data' does not have the shape {shape}")


def _converted(flat: list[Any], shape: Sequence[int], spec: TensorSpec) -> Array:
    types, wanted = ELEMENTS[spec.datatype]
    # numpy would take "1.5", true and null for numbers.
    if set(map(type, flat)) - types:
        raise InvalidRequestError(f"input {spec.name!r}: 'data' must hold {wanted} for {spec.datatype}")
    try:
        with np.errstate(over="raise"):
            return np.array(flat, dtype=DTYPES[spec.datatype]).reshape(shape)
    except (OverflowError, FloatingPointError):
        raise InvalidRequestError(f"input {spec.name!r}: 'data' holds a number outside {spec.datatype}") from None
    except ValueError:
        raise InvalidRequestError(f"input {spec.name!r}: shape {brief(shape)} is too large") from None


def _tensor(spec: TensorSpec, array: Array) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": array.shape, "data": _elements(spec, array)}


def _elements(spec: TensorSpec, array: Array) -> Array | list[Any]:
    if spec.datatype == "FP16":
        raise UnrepresentableOutputError(
            f"output {spec.name!r} is FP16, which has no JSON form: choose others in 'outputs'"
        )
    if spec.datatype == "BYTES":
        return list(array.ravel())
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UnrepresentableOutputError(f"output {spec.name!r} holds NaN or infinity, which JSON does not have")
    return array.ravel()
