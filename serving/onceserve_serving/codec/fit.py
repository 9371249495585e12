"""Whether what a caller names fits the model; shared by every form of a request, pure."""

from collections.abc import Collection, Container, Mapping, Sequence
from math import prod
from reprlib import repr as brief
from typing import Final, TypeGuard, TypeVar

from onceserve_serving.errors import InvalidRequestError
from onceserve_serving.tensors import Array, Signature, TensorSpec

T = TypeVar("T")

MAX_DIMENSION: Final = 2**31 - 1

MAX_RANK: Final = 32
"""Dimensions that a tensor may have: below numpy's own end, and their product stays a small number to compute."""


def spec(name: object, role: str, known: Mapping[str, TensorSpec]) -> TensorSpec:
    """Return what the model declares under a name; `role` is "input" or "output". Raises InvalidRequestError."""
    found = known.get(name) if isinstance(name, str) else None
    if found is None:
        raise InvalidRequestError(f"unknown {role} {brief(name)}; the model has{_listed(known, known.keys())}")
    return found


def add(inputs: dict[str, T], name: str, given: T) -> None:
    """Add an input; raises InvalidRequestError if there is one of its name."""
    if name in inputs:
        raise InvalidRequestError(f"input {name!r} is given twice")
    inputs[name] = given


def check_complete(inputs: Collection[str], signature: Signature) -> None:
    """Raise InvalidRequestError unless every input of the model is there."""
    if len(inputs) < len(signature.inputs):
        missing = signature.inputs.keys() - set(inputs)
        raise InvalidRequestError(f"missing input{_listed(signature.inputs, missing)}")


def outputs(names: Collection[object], signature: Signature) -> tuple[str, ...]:
    """Return the outputs asked for, all of them if none is; raises InvalidRequestError."""
    if not names:
        return tuple(signature.outputs)
    chosen = tuple(spec(name, "output", signature.outputs).name for name in names)
    if len(set(chosen)) < len(chosen):
        raise InvalidRequestError("'outputs' names an output twice")
    return chosen


def check_memory(parameters: Container[str], who: str) -> None:
    """Raise InvalidRequestError if a tensor's parameters say that it is elsewhere; `who` is the tensor in words."""
    if "shared_memory_region" in parameters:
        raise InvalidRequestError(f"{who} is in shared memory, which is not served: send the tensor itself")


def check_datatype(given: object, wanted: TensorSpec) -> None:
    """Raise InvalidRequestError unless the datatype is the model's."""
    if given != wanted.datatype:
        raise InvalidRequestError(f"input {wanted.name!r}: datatype {brief(given)} given, {wanted.datatype} expected")


def shape(given: object, wanted: TensorSpec) -> list[int]:
    """Return a shape that fits the model's; raises InvalidRequestError."""
    if not _are_sizes(given):
        raise InvalidRequestError(
            f"input {wanted.name!r}: 'shape' must be a list of integers from 0 to {MAX_DIMENSION}"
        )
    if wanted.shape and not _fits(given, wanted.shape):
        raise InvalidRequestError(
            f"input {wanted.name!r}: shape {brief(given)} given, {list(wanted.shape)} expected (-1: any)"
        )
    if len(given) > MAX_RANK:
        raise InvalidRequestError(
            f"input {wanted.name!r}: shape {brief(given)} is too large: it has more than {MAX_RANK} dimensions"
        )
    return given


def reshaped(flat: Array, sizes: Sequence[int], name: str) -> Array:
    """Return the elements in their shape; raises InvalidRequestError if their number is another's."""
    if flat.size != prod(sizes):
        raise InvalidRequestError(
            f"input {name!r}: shape {list(sizes)} takes {prod(sizes)} elements, {flat.size} are given"
        )
    try:
        return flat.reshape(sizes)
    except ValueError:
        # An empty tensor whose other dimensions are beyond what an address can count.
        raise InvalidRequestError(f"input {name!r}: shape {brief(sizes)} is too large") from None


def _are_sizes(given: object) -> TypeGuard[list[int]]:
    # bool is an int to isinstance, and `true` is no dimension.
    if not isinstance(given, list):
        return False
    # A generator would cost more than all that it looks at.
    for size in given:  # noqa: SIM110
        if type(size) is not int or not 0 <= size <= MAX_DIMENSION:
            return False
    return True


def _fits(given: Sequence[int], wanted: Sequence[int]) -> bool:
    if len(given) != len(wanted):
        return False
    # A generator would cost more than all that it looks at.
    for size, want in zip(given, wanted, strict=True):  # noqa: SIM110
        if want not in (-1, size):
            return False
    return True


def _listed(known: Mapping[str, TensorSpec], names: Container[str]) -> str:
    return " " + ", ".join(str(one) for name, one in known.items() if name in names)
