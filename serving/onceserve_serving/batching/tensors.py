"""Merging requests along axis 0 and splitting their outputs again; pure."""

from collections.abc import Hashable, Mapping, Sequence
from itertools import accumulate, pairwise

import numpy as np

from onceserve_serving.errors import OnceServeError
from onceserve_serving.tensors import Array, Signature


class NotSplittableError(OnceServeError):
    """An output does not have one row for each row of the inputs, so that nobody can tell whose it is."""


def has_rows(signature: Signature) -> bool:
    """Tell whether axis 0 of every input and output takes any size: only then can it be the axis of the requests."""
    specs = [*signature.inputs.values(), *signature.outputs.values()]
    return bool(signature.inputs) and all(spec.shape[:1] == (-1,) for spec in specs)


def rows_of(inputs: Mapping[str, Array]) -> int | None:
    """Return the rows of a request; None if it has none or its inputs differ (a model may broadcast them)."""
    arrays = iter(inputs.values())
    shape = next(arrays).shape
    if not shape or not shape[0]:
        return None
    rows: int = shape[0]
    for array in arrays:
        if array.shape[:1] != (rows,):
            return None
    return rows


def key_of(inputs: Mapping[str, Array], outputs: Sequence[str]) -> Hashable:
    """Return what two requests must have in common to be merged: names, dtypes, trailing dimensions and outputs."""
    if len(inputs) == 1:
        [(name, array)] = inputs.items()
        return name, array.dtype.char, array.shape[1:], outputs
    parts = sorted((name, array.dtype.char, array.shape[1:]) for name, array in inputs.items())
    return tuple(parts), outputs


def merge(requests: Sequence[Mapping[str, Array]]) -> Mapping[str, Array]:
    """Return the inputs of several requests of one key as those of one request, in their order."""
    if len(requests) == 1:
        return requests[0]
    return {name: np.concatenate([request[name] for request in requests]) for name in requests[0]}


def split(outputs: Sequence[Array], rows: Sequence[int]) -> list[list[Array]]:
    """Return the outputs of each request, of so many rows each; raises NotSplittableError."""
    total = sum(rows)
    for output in outputs:
        if output.shape[:1] != (total,):
            raise NotSplittableError(f"an output of shape {list(output.shape)} does not have {total} rows")
    bounds = list(pairwise(accumulate(rows, initial=0)))
    return [[output[start:end] for output in outputs] for start, end in bounds]
