"""What a verification asks and what it is told, in JSON; pure.

Unlike callers it may ask in JSON for all that a model takes and gives: halves have a form, and null is no number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import orjson

from onceserve_serving.codec import fit, json, rest
from onceserve_serving.errors import ExecutionFailedError, InvalidRequestError
from onceserve_serving.tensors import DTYPES, Array, Buffer, InferenceRequest, Signature, TensorSpec

MOST: Final = 64
"""Requests of one verification, so that it ends."""

WHOLE: Final = {"binary_data_output": True}
"""Asks for all outputs, those included that have no form in JSON for callers."""


def requests(body: Buffer) -> list[dict[str, Any]]:
    """Return the requests in a body, each with its inputs; raises InvalidRequestError, naming the field."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequestError(f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidRequestError("the body must be a JSON object with 'requests'")
    found = _objects(document, "requests", "requests")
    if len(found) > MOST:
        raise InvalidRequestError(f"'requests' must be {MOST} at most, {len(found)} are given")
    for index, request in enumerate(found):
        _objects(request, "inputs", f"requests[{index}].inputs")
        if not isinstance(request.get("data", {}), dict):
            raise InvalidRequestError(f"'requests[{index}].data' must be an object of shapes by names of outputs")
    return found


def decode(request: Mapping[str, Any], signature: Signature) -> InferenceRequest:
    """Return the request as a caller's would be decoded; raises InvalidRequestError, naming the input."""
    tensors, halves = [], []
    for tensor in request["inputs"]:
        if tensor.get("datatype") == "FP16" and "data" in tensor:
            halves.append(_halves(tensor, signature))
            tensors.append({**_shape(tensor), "parameters": {"binary_data_size": len(halves[-1])}})
        else:
            tensors.append(tensor)
    try:
        header = orjson.dumps({"inputs": tensors, "parameters": WHOLE})
    except orjson.JSONEncodeError as error:
        raise InvalidRequestError(f"'inputs' cannot be read: {error}") from None
    return rest.decode(b"".join([header, *halves]), len(header), signature)


def result(
    names: Sequence[str], arrays: Sequence[Array], signature: Signature, data: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the outputs and whether all their numbers are finite; data only of those that have the shape in `data`.

    Raises ExecutionFailedError if one is not as the model declares it.
    """
    specs = [signature.outputs[name] for name in names]
    outputs = [_output(spec, array, data) for spec, array in zip(specs, arrays, strict=True)]
    return {"outputs": outputs, "finite": all(map(_is_finite, arrays))}


def _objects(document: Mapping[str, Any], key: str, path: str) -> list[dict[str, Any]]:
    value = document.get(key)
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise InvalidRequestError(f"{path!r} must be a list of objects")
    return value


def _halves(tensor: Mapping[str, Any], signature: Signature) -> bytes:
    spec = fit.spec(tensor.get("name"), "input", signature.inputs)
    fit.check_datatype(tensor["datatype"], spec)
    shape = fit.shape(tensor.get("shape"), spec)
    wide = json.array(tensor["data"], shape, replace(spec, datatype="FP32"))
    with np.errstate(over="ignore"):
        narrow = wide.astype(DTYPES["FP16"])
    if not _is_finite(narrow):
        raise InvalidRequestError(f"input {spec.name!r}: 'data' holds a number outside FP16")
    return narrow.tobytes()


def _shape(tensor: Mapping[str, Any]) -> dict[str, Any]:
    return {field: tensor[field] for field in ("name", "datatype", "shape")}


def _output(spec: TensorSpec, array: Array, data: Mapping[str, Any]) -> dict[str, Any]:
    if array.dtype != DTYPES[spec.datatype]:
        raise ExecutionFailedError(f"output {spec.name!r} is of {array.dtype}, and the model declares {spec.datatype}")
    if not _has_shape(array, spec.shape):
        given, declared = list(array.shape), list(spec.shape)
        raise ExecutionFailedError(
            f"output {spec.name!r} has the shape {given}, and the model declares {declared} (-1: any)"
        )
    output = {"name": spec.name, "datatype": spec.datatype, "shape": array.shape}
    return output | {"data": _data(array, spec)} if data.get(spec.name) == list(array.shape) else output


def _has_shape(array: Array, declared: Sequence[int]) -> bool:
    if not declared:
        return True
    return array.ndim == len(declared) and all(
        want in (-1, size) for size, want in zip(array.shape, declared, strict=True)
    )


def _data(array: Array, spec: TensorSpec) -> orjson.Fragment:
    if array.dtype.kind != "f":
        return json.elements(array, spec)
    # orjson writes null for what is no number.
    return orjson.Fragment(orjson.dumps(array.ravel(), option=orjson.OPT_SERIALIZE_NUMPY))


def _is_finite(array: Array) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())
