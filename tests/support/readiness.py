"""When a ModelDeployment was Ready, and which of its pods were."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from devcluster.cluster import Cluster
from support.following import ABSENT, Following, Row, following
from support.waiting import eventually

_READY = '.status.conditions[?(@.type=="Ready")].status'
_POD_COLUMNS = (".metadata.name", ".spec.nodeName", ".metadata.deletionTimestamp", _READY)


class Readiness:
    """When a ModelDeployment began and ceased to be Ready, as its status has it."""

    def __init__(self, told: Following) -> None:
        self._told = told

    def becomes(self, status: str, *, since: float, timeout: float) -> float:
        """Wait until the condition has had a status after a moment; return since when."""

        def found() -> float:
            return next((row.at for row in self._told.rows if row.at > since and row.cells == (status,)), 0)

        return eventually(found, f"Ready={status}", timeout)


@contextmanager
def readiness(cluster: Cluster, namespace: str, name: str) -> Iterator[Readiness]:
    """Follow a ModelDeployment's condition Ready."""
    with following(cluster, namespace, ["mdep", name], [_READY]) as told:
        yield Readiness(told)


@dataclass(frozen=True, slots=True)
class Moment:
    """Which pods were ready at one moment, and not on their way out."""

    at: float
    nodes: dict[str, str]
    """Of each such pod its node."""

    def outside(self, node: str) -> int:
        """Return how many of them are on other nodes."""
        return sum(each != node for each in self.nodes.values())


class ReadyPods:
    """Which pods of a ModelDeployment are ready, from moment to moment."""

    def __init__(self, told: Following) -> None:
        self._told = told

    def moments(self, since: float) -> list[Moment]:
        """Return the moments after one, and how things stood at its beginning."""
        moments = list(_moments(self._told.rows))
        before = [moment for moment in moments if moment.at <= since]
        return [*before[-1:], *moments[len(before) :]]

    def reach(self, number: int, *, since: float, timeout: float, outside: str = "") -> float:
        """Wait until so many are ready, not counting those of one node; return since when."""

        def found() -> float:
            return next((each.at for each in self.moments(since) if each.outside(outside) >= number), 0)

        return eventually(found, f"{number} pods are ready", timeout)


def _moments(rows: Sequence[Row]) -> Iterator[Moment]:
    nodes: dict[str, str] = {}
    for row in list(rows):
        name, node, leaving, ready = row.cells
        nodes.pop(name, None)
        if row.event != "DELETED" and ready == "True" and leaving == ABSENT:
            nodes[name] = node
        yield Moment(row.at, dict(nodes))


@contextmanager
def ready_pods(cluster: Cluster, namespace: str, name: str) -> Iterator[ReadyPods]:
    """Follow the pods of a ModelDeployment."""
    selector = f"--selector=onceserve.dev/modeldeployment={name}"
    with following(cluster, namespace, ["pods", selector], _POD_COLUMNS) as told:
        yield ReadyPods(told)
