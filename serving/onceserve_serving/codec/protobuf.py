"""The protocol's protobuf messages; pure."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from google.protobuf.message import DecodeError

from onceserve_serving.codec import binary, fit
from onceserve_serving.errors import InvalidRequestError
from onceserve_serving.proto.open_inference_pb2 import InferTensorContents, ModelInferRequest, ModelInferResponse
from onceserve_serving.tensors import DTYPES, Array, Buffer, InferenceRequest, Signature, TensorSpec

Input = ModelInferRequest.InferInputTensor

FIELDS: Final = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where the elements of each datatype are; FP16 has no field."""

FIXED_WIDTH: Final = frozenset({"fp32_contents", "fp64_contents"})
"""Fields whose elements have the same form on the wire as in memory."""

RAW_OUTPUT: Final = bytes([ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER << 3 | 2])
"""What stands before the length and the bytes of each raw output on the wire."""

CONTINUED: Final = 0x80
"""In a byte of a varint: more follow. Each holds the 7 bits below."""


def parse(data: bytes) -> ModelInferRequest:
    """Return the message in a request's bytes; raises InvalidRequestError."""
    try:
        return ModelInferRequest.FromString(data)
    except DecodeError:
        raise InvalidRequestError("the body is not a ModelInferRequest") from None


def decode(message: ModelInferRequest, signature: Signature) -> InferenceRequest:
    """Return the request in a message, checked against the signature; its parameters have no meaning here.

    Raises InvalidRequestError, naming the input and what was expected.
    """
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise InvalidRequestError(
            f"'raw_input_contents' has {len(raw)} entries for {len(message.inputs)} inputs: give one each, or none"
        )
    inputs: dict[str, Array] = {}
    for index, tensor in enumerate(message.inputs):
        spec = fit.spec(tensor.name, "input", signature.inputs)
        fit.add(inputs, spec.name, _array(tensor, spec, raw[index] if raw else None))
    fit.check_complete(inputs, signature)
    outputs = fit.outputs([output.name for output in message.outputs], signature)
    for output in message.outputs:
        fit.check_memory(output.parameters, f"output {output.name!r}")
    return InferenceRequest(message.id or None, inputs, outputs)


def encode(model: str, version: str, request: InferenceRequest, arrays: Sequence[Array], signature: Signature) -> bytes:
    """Return the bytes of a response for the outputs that the request asked for, each as raw bytes."""
    message = ModelInferResponse(model_name=model, model_version=version, id=request.id or "")
    raw: list[Buffer] = []
    for name, array in zip(request.outputs, arrays, strict=True):
        spec = signature.outputs[name]
        message.outputs.add(name=name, datatype=spec.datatype, shape=array.shape)
        elements = binary.dump(array, spec)
        raw += (RAW_OUTPUT, _varint(len(elements)), elements)
    # Through the message they would be copied three times, and on the wire a message's fields just follow each other.
    return b"".join((message.SerializeToString(), *raw))


def _array(tensor: Input, spec: TensorSpec, raw: bytes | None) -> Array:
    fit.check_datatype(tensor.datatype, spec)
    shape = fit.shape(list(tensor.shape), spec)
    fit.check_memory(tensor.parameters, f"input {spec.name!r}")
    fields = [field.name for field, _ in tensor.contents.ListFields()]
    if raw is None:
        return fit.reshaped(_typed(tensor.contents, fields, spec), shape, spec.name)
    if fields:
        raise InvalidRequestError(f"input {spec.name!r} has both 'contents' and 'raw_input_contents'")
    return binary.array(memoryview(raw), shape, spec)


def _typed(contents: InferTensorContents, fields: list[str], spec: TensorSpec) -> Array:
    field = FIELDS.get(spec.datatype)
    if field is None:
        raise InvalidRequestError(
            f"input {spec.name!r}: {spec.datatype} has no typed form and can only be sent in 'raw_input_contents'"
        )
    if fields and fields != [field]:
        raise InvalidRequestError(f"input {spec.name!r}: {spec.datatype} goes in '{field}', given is {fields}")
    if field in FIXED_WIDTH:
        return _fixed_width(contents, len(getattr(contents, field)), DTYPES[spec.datatype])
    return _elements(list(getattr(contents, field)), spec)


def _fixed_width(contents: InferTensorContents, count: int, dtype: np.dtype[Any]) -> Array:
    # On the wire they lie behind each other as in memory, so nothing need be done for each: some 70 times as fast.
    contents.DiscardUnknownFields()
    size = count * dtype.itemsize
    start = 1 + len(_varint(size))
    return np.frombuffer(contents.SerializeToString()[start : start + size], dtype)


def _elements(values: list[Any], spec: TensorSpec) -> Array:
    try:
        return np.array(values, dtype=DTYPES[spec.datatype])
    except OverflowError:
        raise InvalidRequestError(f"input {spec.name!r}: 'contents' holds a number outside {spec.datatype}") from None


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= CONTINUED:
        encoded.append(number % CONTINUED | CONTINUED)
        number //= CONTINUED
    return bytes((*encoded, number))
