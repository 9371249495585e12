"""When to cut a batch, and which requests are in it; pure."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from onceserve_serving.engine.runner import LOOP_BUDGET

ALONE: Final = None
"""The key of a request that goes together with none; those that have it follow one another."""

BURST: Final = 0.015
"""Seconds after which those are answered that have run one after another, before others follow.

A hop to the inference thread for each costs a processor that does the rest as well an eighth of a run of 2 ms; answers
that are held back for others are late.
"""


class Waiting(Protocol):
    """A request that waits for the model. Times are in seconds of one clock."""

    @property
    def key(self) -> Hashable:
        """What requests that go together have in common; ALONE for one that goes with none."""

    @property
    def rows(self) -> int:
        """Its size along axis 0."""

    @property
    def seconds(self) -> float:
        """What its run is to take; known where its key is ALONE."""

    @property
    def arrived(self) -> float:
        """When it began to wait."""

    @property
    def deadline(self) -> float:
        """When its run must have begun."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Rows that go together, and the seconds that a request may wait for others (0: none)."""

    rows: int
    delay: float = 0.0


W = TypeVar("W", bound=Waiting)


class Cut(NamedTuple, Generic[W]):
    """What happens now: who is too late, who goes, who stays; `again` is when to look again if nobody goes."""

    expired: list[W]
    batch: list[W]
    rest: list[W]
    again: float | None


def cut(waiting: Sequence[W], limits: Limits, now: float) -> Cut[W]:
    """Return what to do with requests that wait in the order of their arrival while the model is free.

    The batch is that of the request that has waited longest among those whose batch is full or due.
    """
    expired = [one for one in waiting if one.deadline <= now]
    living = [one for one in waiting if one.deadline > now] if expired else list(waiting)
    undecided: set[Hashable] = set()
    for first in living:
        if first.key in undecided:
            continue
        batch, full = _mates(first, living, limits.rows)
        if full or now >= first.arrived + limits.delay:
            chosen = set(map(id, batch))
            return Cut(expired, batch, [one for one in living if id(one) not in chosen], None)
        undecided.add(first.key)
    return Cut(expired, [], living, _next_look(living, limits.delay))


def _mates(first: W, living: Sequence[W], most: int) -> tuple[list[W], bool]:
    if first.key is ALONE:
        return _burst(living[living.index(first) :]), True
    if first.rows >= most:
        return [first], True
    batch: list[W] = []
    rows = 0
    for one in living:
        if one.key != first.key:
            continue
        if rows + one.rows > most:
            return batch, True
        batch.append(one)
        rows += one.rows
    return batch, rows == most


def _burst(waiting: Sequence[W]) -> list[W]:
    """Return those at the front that go with none, as long as all of them together take no long time."""
    most = BURST if waiting[0].seconds > LOOP_BUDGET else LOOP_BUDGET
    ends = accumulate(one.seconds for one in waiting)
    alone = takewhile(lambda each: each[0].key is ALONE and each[1] <= most, zip(waiting, ends, strict=True))
    return [one for one, _ in alone] or [waiting[0]]


def _next_look(living: Sequence[Waiting], delay: float) -> float | None:
    return min((min(one.arrived + delay, one.deadline) for one in living), default=None)
