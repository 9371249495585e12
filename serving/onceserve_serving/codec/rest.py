"""Bodies over REST: a JSON document, and behind it the bytes of the tensors whose elements it does not hold; pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from onceserve_serving.codec import binary, fit, json
from onceserve_serving.errors import InvalidRequestError
from onceserve_serving.tensors import Array, Buffer, InferenceRequest, Signature, TensorSpec

NOTHING: Final[Mapping[str, Any]] = {}
_NONE: Final[frozenset[str]] = frozenset()
_OBJECTS: Final = frozenset({dict})
_CHOICES: Final = frozenset({"outputs", "parameters"})
"""What a request says of its outputs; most say nothing."""


class Body(NamedTuple):
    """A response: its pieces in order, and the length of the JSON before the binary tensors (None: there are none)."""

    pieces: list[Buffer]
    header_length: int | None


class _Tail:
    """What follows the JSON document: each input takes its bytes from the front."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._taken = 0

    def take(self, size: object, name: str) -> memoryview:
        if type(size) is not int or size < 0:
            raise InvalidRequestError(f"input {name!r}: 'binary_data_size' must be a number of bytes")
        left = len(self._data) - self._taken
        if size > left:
            raise InvalidRequestError(f"input {name!r}: 'binary_data_size' is {size}, and {left} bytes are left")
        self._taken += size
        return self._data[self._taken - size : self._taken]

    def check_end(self) -> None:
        if left := len(self._data) - self._taken:
            raise InvalidRequestError(
                f"{left} bytes follow the last tensor, and no input's 'binary_data_size' has them"
            )


# Nothing can be taken of it, so that it serves all.
_NO_TAIL: Final = _Tail(memoryview(b""))


def decode(body: Buffer, header_length: int | None, signature: Signature) -> InferenceRequest:
    """Return the request in a body, checked against the signature.

    `header_length` is the JSON's length in bytes where binary tensors follow it. Arrays may be views of the body.
    Raises InvalidRequestError, naming the input and what was expected.
    """
    document, tail = _parts(body, header_length)
    inputs: dict[str, Array] = {}
    for tensor in _objects(document, "inputs"):
        spec = fit.spec(tensor.get("name"), "input", signature.inputs)
        fit.add(inputs, spec.name, _array(tensor, spec, tail))
    tail.check_end()
    fit.check_complete(inputs, signature)
    outputs, binaries = _outputs(document, signature)
    return InferenceRequest(_identifier(document), inputs, outputs, binaries)


def encode(model: str, version: str, request: InferenceRequest, arrays: Sequence[Array], signature: Signature) -> Body:
    """Return the response for the outputs that the request asked for, each in the form that it asked for.

    Pieces may be views of the arrays. Raises UnrepresentableOutputError if JSON has no form for a value.
    """
    document: dict[str, Any] = {"model_name": model, "model_version": version}
    if request.id is not None:
        document["id"] = request.id
    outputs = document["outputs"] = []
    pieces: list[Buffer] = [b""]
    for name, array in zip(request.outputs, arrays, strict=True):
        spec = signature.outputs[name]
        tensor: dict[str, Any] = {"name": name, "datatype": spec.datatype, "shape": array.shape}
        if name in request.binary:
            pieces.append(binary.dump(array, spec))
            tensor["parameters"] = {"binary_data_size": len(pieces[-1])}
        else:
            tensor["data"] = json.elements(array, spec)
        outputs.append(tensor)
    header = pieces[0] = orjson.dumps(document)
    return Body(pieces, len(header) if request.binary else None)


def _parts(body: Buffer, header_length: int | None) -> tuple[dict[str, Any], _Tail]:
    if header_length is None:
        return _document(body), _NO_TAIL
    if header_length > len(body):
        raise InvalidRequestError(
            f"Inference-Header-Content-Length is {header_length}, and the body has {len(body)} bytes"
        )
    view = memoryview(body)
    return _document(view[:header_length]), _Tail(view[header_length:])


def _document(body: Buffer) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequestError(f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidRequestError("the body must be a JSON object with 'inputs'")
    return document


def _objects(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = document.get(key)
    # A generator would cost more than all that it looks at.
    if not isinstance(value, list) or not _OBJECTS.issuperset(map(type, value)):
        raise InvalidRequestError(f"{key!r} must be a list of objects, one for each {key[:-1]}")
    return value


def _identifier(document: Mapping[str, Any]) -> str | None:
    identifier = document.get("id")
    if identifier is not None and not isinstance(identifier, str):
        raise InvalidRequestError("'id' must be a string")
    return identifier


def _array(tensor: Mapping[str, Any], spec: TensorSpec, tail: _Tail) -> Array:
    fit.check_datatype(tensor.get("datatype"), spec)
    shape = fit.shape(tensor.get("shape"), spec)
    parameters = _parameters(tensor, "input", spec.name)
    if "binary_data_size" not in parameters:
        return json.array(tensor.get("data"), shape, spec)
    if "data" in tensor:
        raise InvalidRequestError(f"input {spec.name!r} has both 'data' and 'binary_data_size'")
    return binary.array(tail.take(parameters["binary_data_size"], spec.name), shape, spec)


def _parameters(owner: Mapping[str, Any], role: str, name: str = "") -> Mapping[str, Any]:
    """Return the parameters of an input, an output or, as role "request", the whole."""
    parameters = owner.get("parameters")
    if parameters is None:
        return NOTHING
    who = f"{role} {name!r}" if name else f"the {role}"
    if not isinstance(parameters, dict):
        raise InvalidRequestError(f"'parameters' of {who} must be an object")
    fit.check_memory(parameters, who)
    return parameters


def _outputs(document: Mapping[str, Any], signature: Signature) -> tuple[tuple[str, ...], frozenset[str]]:
    plain = _CHOICES.isdisjoint(document)
    names, binaries = (tuple(signature.outputs), _NONE) if plain else _chosen(document, signature)
    for name in names:
        if signature.outputs[name].datatype == "FP16" and name not in binaries:
            raise InvalidRequestError(
                f"output {name!r} is FP16, which has no JSON form: ask for it with the parameter 'binary_data', "
                "or choose others in 'outputs'"
            )
    return names, binaries


def _chosen(document: Mapping[str, Any], signature: Signature) -> tuple[tuple[str, ...], frozenset[str]]:
    whole = _flag(_parameters(document, "request"), "binary_data_output", "the request") or False
    chosen = _objects(document, "outputs") if document.get("outputs") else []
    names = fit.outputs([one.get("name") for one in chosen], signature)
    wishes = {one["name"]: wish for one in chosen if (wish := _wish(one)) is not None}
    return names, frozenset(name for name in names if wishes.get(name, whole)) if whole or wishes else _NONE


def _wish(output: Mapping[str, Any]) -> bool | None:
    name = output["name"]
    return _flag(_parameters(output, "output", name), "binary_data", f"output {name!r}")


def _flag(parameters: Mapping[str, Any], name: str, who: str) -> bool | None:
    value = parameters.get(name)
    if value is not None and not isinstance(value, bool):
        raise InvalidRequestError(f"{name!r} of {who} must be true or false")
    return value
