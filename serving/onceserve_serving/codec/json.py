"""A tensor's elements as JSON; pure.

Rows are checked and converted as whole lists, in C: no Python code runs per element.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final

import numpy as np
import orjson

from onceserve_serving.codec import fit
from onceserve_serving.errors import InvalidRequestError, UnrepresentableOutputError
from onceserve_serving.tensors import DTYPES, Array, TensorSpec

FEW: Final = 1024
"""Elements up to which to pack them is cheaper than to tell numpy that it must not overflow."""

_FLOATS: Final = frozenset({int, float})
ELEMENTS: Final[Mapping[str, tuple[frozenset[type], str]]] = {
    **{name: (frozenset({int}), "integers") for name in DTYPES if "INT" in name},
    "BOOL": (frozenset({bool}), "true and false"),
    "FP32": (_FLOATS, "numbers"),
    "FP64": (_FLOATS, "numbers"),
    "BYTES": (frozenset({str}), "strings"),
}
"""Per datatype the Python types that its JSON elements have, and their name for people."""


def array(data: object, shape: Sequence[int], spec: TensorSpec) -> Array:
    """Return an input's `data`, flat or nested; raises InvalidRequestError, naming the input."""
    if spec.datatype not in ELEMENTS:
        raise InvalidRequestError(
            f"input {spec.name!r}: {spec.datatype} has no JSON form and can only be sent as a binary tensor"
        )
    if not isinstance(data, list):
        raise InvalidRequestError(f"input {spec.name!r}: 'data' must be a list")
    return fit.reshaped(_converted(_flat(data, shape, spec.name), spec), shape, spec.name)


def elements(array: Array, spec: TensorSpec) -> orjson.Fragment:
    """Return an output's `data`; raises UnrepresentableOutputError if JSON has no form for a value."""
    if spec.datatype == "BYTES":
        return orjson.Fragment(orjson.dumps(_text(array, spec.name)))
    data = orjson.dumps(array.ravel(), option=orjson.OPT_SERIALIZE_NUMPY)
    # orjson writes null for what is no number, and to look for it is cheaper than to look at the numbers.
    if array.dtype.kind == "f" and b"n" in data:
        raise UnrepresentableOutputError(
            f"output {spec.name!r} holds NaN or infinity, which JSON does not have: ask for it as a binary tensor"
        )
    return orjson.Fragment(data)


def _text(array: Array, name: str) -> list[str]:
    try:
        return [element.decode() for element in array.ravel()]
    except UnicodeDecodeError:
        raise UnrepresentableOutputError(
            f"output {name!r} holds bytes that are no UTF-8, which JSON does not have: ask for it as a binary tensor"
        ) from None


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
    return InvalidRequestError(f"input {name!r}: nested 'data' does not have the shape {list(shape)}")


def _converted(flat: list[Any], spec: TensorSpec) -> Array:
    types, wanted = ELEMENTS[spec.datatype]
    # numpy would take "1.5", true and null for numbers.
    if not types.issuperset(map(type, flat)):
        raise InvalidRequestError(f"input {spec.name!r}: 'data' must hold {wanted} for {spec.datatype}")
    if spec.datatype == "BYTES":
        flat = list(map(str.encode, flat))
    try:
        if spec.datatype == "FP32" and len(flat) <= FEW:
            return np.frombuffer(_packing(len(flat))(*flat), dtype=np.float32)
        with np.errstate(over="raise"):
            return np.array(flat, dtype=DTYPES[spec.datatype])
    except (OverflowError, FloatingPointError, struct.error):
        raise InvalidRequestError(f"input {spec.name!r}: 'data' holds a number outside {spec.datatype}") from None


@lru_cache(maxsize=64)
def _packing(elements: int) -> Callable[..., bytes]:
    return struct.Struct(f"<{elements}f").pack
