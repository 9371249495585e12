"""A tensor's elements as bytes, row-major and little-endian, as the protocol's binary extension has them; pure.

Arrays are these bytes as they are: all that onnxruntime is built for is little-endian.
"""

import struct
from collections.abc import Iterator, Sequence
from math import prod
from typing import Final

import numpy as np

from onceserve_serving.codec import fit
from onceserve_serving.errors import InvalidRequestError
from onceserve_serving.tensors import DTYPES, Array, Buffer, TensorSpec

LENGTH: Final = struct.Struct("<I")
"""What stands before each element of a BYTES tensor."""


def array(data: memoryview, shape: Sequence[int], spec: TensorSpec) -> Array:
    """Return a tensor over these bytes, without a copy where they are aligned; it is not to be written to.

    Raises InvalidRequestError, naming the input, unless the bytes are just those of the shape.
    """
    if spec.datatype == "BYTES":
        return fit.reshaped(_strings(data, prod(shape), spec.name), shape, spec.name)
    dtype = DTYPES[spec.datatype]
    wanted = prod(shape) * dtype.itemsize
    if len(data) != wanted:
        raise InvalidRequestError(
            f"input {spec.name!r}: shape {list(shape)} of {spec.datatype} takes {wanted} bytes, {len(data)} are given"
        )
    flat = np.frombuffer(data, dtype)
    if spec.datatype == "BOOL":
        _check_bools(flat, spec.name)
    # What reads a float where no float can lie may be code that the processor stops for it.
    return fit.reshaped(flat if flat.flags.aligned else flat.copy(), shape, spec.name)


def dump(array: Array, spec: TensorSpec) -> Buffer:
    """Return a tensor's bytes, without a copy where it lies row by row."""
    if spec.datatype == "BYTES":
        return b"".join(_framed(array))
    # A view of nothing cannot be cast.
    return np.ascontiguousarray(array).reshape(-1).data.cast("B") if array.size else b""


def _check_bools(flat: Array, name: str) -> None:
    if flat.size and flat.view(np.uint8).max() > 1:
        raise InvalidRequestError(f"input {name!r}: a BOOL's byte must be 0 or 1")


def _strings(data: memoryview, count: int, name: str) -> Array:
    # Before any element is made: a small body must not ask for large memory.
    if count * LENGTH.size > len(data):
        raise InvalidRequestError(
            f"input {name!r}: {count} elements of BYTES take at least {count * LENGTH.size} bytes, "
            f"{len(data)} are given"
        )
    flat = np.empty(count, dtype=np.object_)
    end = 0
    for index in range(count):
        start, end = _extent(data, end, name)
        flat[index] = bytes(data[start:end])
    if end != len(data):
        raise InvalidRequestError(f"input {name!r}: {len(data) - end} bytes are left over after its last element")
    return flat


def _extent(data: memoryview, offset: int, name: str) -> tuple[int, int]:
    start = offset + LENGTH.size
    end = start + LENGTH.unpack_from(data, offset)[0] if start <= len(data) else start
    if end > len(data):
        raise InvalidRequestError(f"input {name!r}: the bytes end within an element")
    return start, end


def _framed(array: Array) -> Iterator[bytes]:
    for element in array.ravel():
        yield LENGTH.pack(len(element))
        yield element
