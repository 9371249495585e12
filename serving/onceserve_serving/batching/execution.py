"""Requests through the model: together, and if that fails or may not be, one by one."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from onceserve_serving.batching.flush import BURST
from onceserve_serving.batching.tensors import NotSplittableError, merge, split
from onceserve_serving.engine.runner import Runner
from onceserve_serving.errors import too_late
from onceserve_serving.tensors import Array

log = logging.getLogger(__name__)


class Request(Protocol):
    """What a run needs of a request, and what it leaves there: when it began and ended, together with how many."""

    began: float
    ended: float
    together: int

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
    def deadline(self) -> float:
        """When its run must have begun, in seconds of `time.monotonic()`."""

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
    """What requests came to: of each its outputs or its error, in their order, and the runs that it took."""

    outcomes: list[Sequence[Array] | Exception] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    unsplittable: NotSplittableError | None = None


def run_together(runner: Runner, batch: Sequence[Request]) -> Results:
    """Run a batch together, and if that fails each request alone, so that a bad one fails nobody else."""
    for request in batch:
        request.together = len(batch)
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


def run_one_by_one(runner: Runner, requests: Sequence[Request]) -> Results:
    """Run each request alone, the first at once; those at the end are left without an outcome if others took long."""
    results = Results()
    until = time.monotonic() + BURST
    for request in requests:
        now = time.monotonic()
        if not results.outcomes or now < min(until, request.deadline):
            request.together = 1
            _alone(runner, request, results)
        elif now < until:
            results.outcomes.append(too_late())
        else:
            break
    return results


def _together(runner: Runner, batch: Sequence[Request]) -> Results:
    began = time.monotonic()
    outputs, seconds = runner.execute(merge([request.inputs for request in batch]), batch[0].outputs)
    ended = time.monotonic()
    for request in batch:
        request.began, request.ended = began, ended
    rows = [request.rows for request in batch]
    return Results([*split(outputs, rows)], [Run(seconds, sum(rows), len(batch))])


def _alone(runner: Runner, request: Request, results: Results) -> None:
    # A run for nobody would hold up the others.
    if request.abandoned:
        results.outcomes.append([])
        return
    request.began = time.monotonic()
    try:
        outputs, seconds = runner.execute(request.inputs, request.outputs)
    except Exception as error:
        results.outcomes.append(error)
    else:
        results.outcomes.append(outputs)
        results.runs.append(Run(seconds, request.rows, 1))
    request.ended = time.monotonic()
