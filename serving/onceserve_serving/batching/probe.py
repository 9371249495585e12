"""Finds out whether a model treats the rows of its inputs one by one.

A dynamic axis 0 does not say so: a model may subtract the mean of all rows, and merging the requests of two callers
would then change both answers.
"""

import math
from collections.abc import Mapping
from random import Random
from typing import Final

import numpy as np

from onceserve_serving.batching.tensors import NotSplittableError, has_rows, merge, split
from onceserve_serving.engine import Engine
from onceserve_serving.errors import OnceServeError
from onceserve_serving.tensors import Array

TOLERANCE: Final = {"rtol": 1e-2, "atol": 1e-4}
"""Rounding differs with the number of rows; what mixes rows differs by far more."""

ROWS: Final = (1, 2)


def treats_rows_alone(engine: Engine, inputs: Mapping[str, Array]) -> bool:
    """Run a few rows alone and together; `inputs` are some of one row that the model takes."""
    if not has_rows(engine.signature):
        return False
    names = tuple(engine.signature.outputs)
    requests = [{name: _varied(array, rows, seed) for name, array in inputs.items()} for seed, rows in enumerate(ROWS)]
    try:
        alone = [engine.run(request, names) for request in requests]
        together = split(engine.run(merge(requests), names), ROWS)
    except (OnceServeError, NotSplittableError):
        return False
    return all(
        _alike(one, other)
        for mine, theirs in zip(alone, together, strict=True)
        for one, other in zip(mine, theirs, strict=True)
    )


def _varied(array: Array, rows: int, seed: int) -> Array:
    if array.dtype.kind == "O":
        return np.repeat(array, rows, axis=0)
    shape = (rows, *array.shape[1:])
    # numpy's own generators take 3 MB and a fortieth of the start, and nothing else needs them.
    drawn = np.frombuffer(Random(seed).randbytes(4 * math.prod(shape)), np.uint32).reshape(shape)  # noqa: S311
    if array.dtype.kind == "f":
        return (drawn / 2**30 - 2).astype(array.dtype)
    # An integer may be an index into a table of which only the first entries are sure to be there.
    return (drawn % 2).astype(array.dtype)


def _alike(one: Array, other: Array) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.dtype.kind == "f":
        return bool(np.allclose(one, other, equal_nan=True, **TOLERANCE))
    return bool(np.array_equal(one, other))
