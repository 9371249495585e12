"""How a ModelDeployment stood, from change to change."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from devcluster.cluster import Cluster
from support.following import Following, Row, following
from support.waiting import eventually

_COLUMNS = (".spec.replicas", ".status.readyReplicas", ".status.rollout.phase")


@dataclass(frozen=True, slots=True)
class Moment:
    """What was told at one moment."""

    at: float
    """Seconds of `time.time()`."""
    wanted: int
    """`spec.replicas`."""
    ready: int
    """Pods that get traffic and answer."""
    phase: str


class History:
    """All that a watch has told."""

    def __init__(self, told: Following) -> None:
        self._told = told
        self._taken = 0

    @property
    def moments(self) -> list[Moment]:
        """All moments so far."""
        return [_moment(row) for row in list(self._told.rows)]

    def taken(self) -> list[Moment]:
        """Return what has been told since the last time, and the moment before it."""
        moments = self.moments
        begun, self._taken = max(self._taken - 1, 0), len(moments)
        return moments[begun:]

    def between(self, begun: float, ended: float = math.inf) -> list[Moment]:
        """Return what was told in a span of time, and the moment before it."""
        moments = self.moments
        before = [each for each in moments if each.at < begun]
        return [*before[-1:], *(each for each in moments if begun <= each.at < ended)]

    def first(self, what: str, holds: Callable[[Moment], bool], begun: float = 0) -> Moment:
        """Return the first moment since `begun` of which something holds, as soon as there is one."""
        [found] = eventually(lambda: [each for each in self.moments if each.at >= begun and holds(each)][:1], what)
        return found


@contextmanager
def watching(cluster: Cluster, namespace: str, name: str) -> Iterator[History]:
    """Have kubectl watch a ModelDeployment."""
    with following(cluster, namespace, ["mdep", name], _COLUMNS) as told:
        yield History(told)


def _moment(row: Row) -> Moment:
    wanted, ready, phase = row.cells
    return Moment(row.at, _number(wanted), _number(ready), phase)


def _number(cell: str) -> int:
    # One that is not there is 0.
    return int(cell) if cell.isdecimal() else 0
