"""From a model's declared inputs and outputs to the protocol's terms; pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from onceserve_contract.termination import FailureReason
from onceserve_serving.errors import ModelUnavailableError
from onceserve_serving.tensors import DTYPES, Array, Signature, TensorSpec

DATATYPES: Final[Mapping[str, str]] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}

SIZES: Final = (1, 32, 224)
"""Sizes tried for dynamic dimensions after the first: 1 fits most models, convolutions need room for their kernels."""


class Declared(NamedTuple):
    """An input or output as the model file declares it; a symbolic dimension is a name or None."""

    name: str
    type: str
    shape: Sequence[Any]


def read(inputs: Sequence[Declared], outputs: Sequence[Declared]) -> Signature:
    """Return the signature, or raise ModelUnavailableError if the protocol has no form for a value."""
    return Signature(
        {one.name: _spec(one, "input") for one in inputs},
        {one.name: _spec(one, "output") for one in outputs},
    )


def warm_up_inputs(signature: Signature) -> Iterator[dict[str, Array]]:
    """Yield inputs of zeros and empty bytes that fit the signature, the smallest first."""
    for size in SIZES if _has_inner_dynamic(signature) else SIZES[:1]:
        yield {name: _blank(spec, size) for name, spec in signature.inputs.items()}


def _spec(declared: Declared, role: str) -> TensorSpec:
    datatype = DATATYPES.get(declared.type)
    if datatype is None:
        raise ModelUnavailableError(FailureReason.LOAD_FAILED, _no_form(declared, role))
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in declared.shape)
    return TensorSpec(declared.name, datatype, shape)


def _no_form(declared: Declared, role: str) -> str:
    advice = f"its type has no datatype in the protocol; served are {', '.join(DATATYPES.values())}"
    if not declared.type.startswith("tensor("):
        advice = (
            "only tensors can be served; export the model without sequences and maps "
            "(skl2onnx: options={id(model): {'zipmap': False}})"
        )
    return f"{role} {declared.name!r} of the model is {declared.type}: {advice}"


def _has_inner_dynamic(signature: Signature) -> bool:
    return any(-1 in spec.shape[1:] for spec in signature.inputs.values())


def _blank(spec: TensorSpec, size: int) -> Array:
    shape = [wanted if wanted >= 0 else (1 if axis == 0 else size) for axis, wanted in enumerate(spec.shape)]
    return np.full(shape, b"" if spec.datatype == "BYTES" else 0, dtype=DTYPES[spec.datatype])
