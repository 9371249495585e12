"""One batch through the model: together, and if that fails one by one."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from onceserve_serving.batching.tensors import NotSplittableError, merge, split
from onceserve_serving.engine.runner import Runner
from onceserve_serving.tensors import Array

log = logging.getLogger(__name__)


class Request(Protocol):
    """What a run needs of a request."""

    @property
    def rows(self) -> int:
        """Its size along axis 0."""

    @property
    def inputs(self) -> Mapping[str, Array]:
        """Its inputs by name."""

    @property
    def outputs(self) -> Sequence[str]:
        """The names of the outputs that it wants; the same in all requests of a batch."""

    @property
    def abandoned(self) -> bool:
        """Whether its caller has left."""


class Run(NamedTuple):
    """One run of the model: the seconds inside it, its rows, and how many requests it answered."""

    seconds: float
    rows: int
    requests: int


@dataclass(slots=True)
class Results:
    """What a batch came to: per request its outputs or its error, and the runs that it took."""

    outcomes: list[Sequence[Array] | Exception] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    unsplittable: NotSplittableError | None = None


def run_batch(runner: Runner, batch: Sequence[Request]) -> Results:
    """Run a batch together, and if that fails each request alone, so that a bad one fails nobody else."""
    results = Results()
    if len(batch) > 1:
        try:
            return _together(runner, batch)
        except NotSplittableError as error:
            results.unsplittable = error
        except Exception:
            log.debug("a batch failed and is run one by one", exc_info=True)
    for request in batch:
        _alone(runner, request, results)
    return results


def _together(runner: Runner, batch: Sequence[Request]) -> Results:
    outputs, seconds = runner.execute(merge([request.inputs for request in batch]), batch[0].outputs)
    rows = [request.rows for request in batch]
    return Results([*split(outputs, rows)], [Run(seconds, sum(rows), len(batch))])


def _alone(runner: Runner, request: Request, results: Results) -> None:
    # A run for nobody would hold up the others.
    if request.abandoned:
        results.outcomes.append([])
        return
    try:
        outputs, seconds = runner.execute(request.inputs, request.outputs)
    except Exception as error:
        results.outcomes.append(error)
    else:
        results.outcomes.append(outputs)
        results.runs.append(Run(seconds, request.rows, 1))
