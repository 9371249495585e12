"""When to cut a batch, and which requests are in it; pure."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

ALONE: Final = None
"""The key of a request that goes together with none; those that have it follow one another."""


class Waiting(Protocol):
    """A request that waits for the model. Times are in seconds of one clock."""

    @property
    def key(self) -> Hashable:
        """What requests that go together have in common; ALONE for one that goes with none."""

    @property
    def rows(self) -> int:
        """Its size along axis 0."""

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
        return [one for one in living if one.key is ALONE], True
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


def _next_look(living: Sequence[Waiting], delay: float) -> float | None:
    return min((min(one.arrived + delay, one.deadline) for one in living), default=None)
