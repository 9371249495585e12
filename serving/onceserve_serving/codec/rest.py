"""Bodies over REST: a JSON document, and behind it the bytes of the tensors whose elements it does not hold; pure."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

import orjson

from onceserve_serving.codec import binary, fit, json
from onceserve_serving.errors import InvalidRequestError
from onceserve_serving.tensors import Array, Buffer, InferenceRequest, Signature, TensorSpec

NOTHING: Final[Mapping[str, Any]] = {}
_NONE: Final[frozenset[str]] = frozenset()
_OBJECTS: Final = frozenset({dict})
_CHOICES: Final = frozenset({"outputs", "parameters"})
"""What a request says of its outputs; most say nothing."""
_IN_JSON: Final = object()
"""The size of a tensor whose elements the JSON holds."""

SHORT: Final = 1024
KNOWN: Final = 256
"""Bytes up to which the JSON before binary tensors is remembered, and how many: most requests differ only behind it."""


# A named tuple takes longer to make than all that is looked up in it.
_Tensor: TypeAlias = tuple[TensorSpec, list[int], object, object]
"""What a request says of an input: spec, shape, elements, and how many of the bytes behind the JSON are its own."""

_Said: TypeAlias = tuple[str | None, Mapping[str, _Tensor], tuple[str, ...], frozenset[str]]
"""What the JSON of a request says, checked against the signature: id, inputs, outputs, and which of these in binary."""


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
    said, tail = (_said(body, signature), _NO_TAIL) if header_length is None else _parts(body, header_length, signature)
    identifier, tensors, outputs, binaries = said
    inputs = {name: _array(tensor, tail) for name, tensor in tensors.items()}
    tail.check_end()
    return InferenceRequest(identifier, inputs, outputs, binaries)


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


def _parts(body: Buffer, header_length: int, signature: Signature) -> tuple[_Said, _Tail]:
    if header_length > len(body):
        raise InvalidRequestError(
            f"Inference-Header-Content-Length is {header_length}, and the body has {len(body)} bytes"
        )
    view = memoryview(body)
    header, tail = view[:header_length], _Tail(view[header_length:])
    return (_said_before(bytes(header), signature) if header_length <= SHORT else _said(header, signature)), tail


def _said(header: Buffer, signature: Signature) -> _Said:
    document = _document(header)
    tensors: dict[str, _Tensor] = {}
    for tensor in _objects(document, "inputs"):
        spec = fit.spec(tensor.get("name"), "input", signature.inputs)
        fit.add(tensors, spec.name, _tensor(tensor, spec))
    fit.check_complete(tensors, signature)
    outputs, binaries = _outputs(document, signature)
    return _identifier(document), tensors, outputs, binaries


_said_before = lru_cache(maxsize=KNOWN)(_said)


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


def _tensor(tensor: Mapping[str, Any], spec: TensorSpec) -> _Tensor:
    fit.check_datatype(tensor.get("datatype"), spec)
    shape = fit.shape(tensor.get("shape"), spec)
    size = _parameters(tensor, "input", spec.name).get("binary_data_size", _IN_JSON)
    if size is not _IN_JSON and "data" in tensor:
        raise InvalidRequestError(f"input {spec.name!r} has both 'data' and 'binary_data_size'")
    return spec, shape, tensor.get("data"), size


def _array(tensor: _Tensor, tail: _Tail) -> Array:
    spec, shape, data, size = tensor
    if size is _IN_JSON:
        return json.array(data, shape, spec)
    return binary.array(tail.take(size, spec.name), shape, spec)


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
