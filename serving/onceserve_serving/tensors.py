"""The values that codecs, engines and the pipeline exchange."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Buffer: TypeAlias = bytes | bytearray | memoryview

DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}
"""The protocol's datatypes and how they are held in memory; an element of BYTES is a `bytes`."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model.

    A dimension of -1 takes any size. An empty shape means that the model declares none (or a scalar: ONNX Runtime does
    not tell the two apart), so that its rank cannot be checked beforehand.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name!r} ({self.datatype} {list(self.shape)})"


@dataclass(frozen=True, slots=True, eq=False)
class Signature:
    """What a model takes and gives, by name, in the model's own order; a loaded model has one of its own."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


class InferenceRequest(NamedTuple):
    """A request that fits the signature: every input present, the outputs chosen and ordered.

    `binary` are the outputs that a caller over REST wants as bytes instead of JSON.
    """

    id: str | None
    inputs: Mapping[str, Array]
    outputs: tuple[str, ...]
    binary: frozenset[str] = frozenset()
