"""What a watch by kubectl tells, row by row, with the moment at which it was told."""

import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from devcluster.cluster import Cluster
from support.waiting import eventually

DELETED = "DELETED"
_READY = '.object.status.conditions[?(@.type=="Ready")].status'
_POD_COLUMNS = (".object.metadata.name", ".object.spec.nodeName", ".object.metadata.deletionTimestamp", _READY)
_RESOURCE_COLUMNS = (_READY,)
_NONE = "<none>"


@dataclass(frozen=True, slots=True)
class Row:
    """What became of an object; cells as in custom-columns."""

    at: float
    event: str
    cells: tuple[str, ...]


class Following:
    """All that has been told so far."""

    def __init__(self, told: IO[str]) -> None:
        self.rows: list[Row] = []
        self._thread = threading.Thread(target=self._follow, args=(told,))
        self._thread.start()

    def _follow(self, told: IO[str]) -> None:
        for line in told:
            event, *cells = line.split()
            self.rows.append(Row(time.time(), event, tuple(cells)))

    def join(self) -> None:
        """Wait until nothing more can come."""
        self._thread.join()


@contextmanager
def _following(cluster: Cluster, namespace: str, what: Sequence[str], columns: Sequence[str]) -> Iterator[Following]:
    kubectl = [str(cluster.binary("kubectl")), f"--kubeconfig={cluster.kubeconfig}", f"--namespace={namespace}"]
    table = ",".join(f"C{number}:{path}" for number, path in enumerate((".type", *columns)))
    options = ["--watch", "--output-watch-events", "--no-headers", f"--output=custom-columns={table}"]
    process = subprocess.Popen([*kubectl, "get", *what, *options], stdout=subprocess.PIPE, text=True, bufsize=1)
    assert process.stdout
    following = Following(process.stdout)
    try:
        eventually(lambda: following.rows, f"kubectl tells of {' '.join(what)}")
        yield following
    finally:
        process.kill()
        process.wait()
        following.join()
        process.stdout.close()


class Readiness:
    """When a ModelDeployment began and ceased to be Ready, as its status has it."""

    def __init__(self, following: Following) -> None:
        self._following = following

    def becomes(self, status: str, *, since: float, timeout: float) -> float:
        """Wait until the condition has had a status after a moment; return since when."""

        def found() -> float:
            return next((row.at for row in self._following.rows if row.at > since and row.cells == (status,)), 0)

        return eventually(found, f"Ready={status}", timeout)


@contextmanager
def readiness(cluster: Cluster, namespace: str, name: str) -> Iterator[Readiness]:
    """Follow a ModelDeployment's condition Ready."""
    with _following(cluster, namespace, ["mdep", name], _RESOURCE_COLUMNS) as following:
        yield Readiness(following)


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

    def __init__(self, following: Following) -> None:
        self._following = following

    def moments(self, since: float) -> list[Moment]:
        """Return the moments after one, and how things stood at its beginning."""
        told = list(_moments(self._following.rows))
        before = [moment for moment in told if moment.at <= since]
        return [*before[-1:], *told[len(before) :]]

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
        if row.event != DELETED and ready == "True" and leaving == _NONE:
            nodes[name] = node
        yield Moment(row.at, dict(nodes))


@contextmanager
def ready_pods(cluster: Cluster, namespace: str, name: str) -> Iterator[ReadyPods]:
    """Follow the pods of a ModelDeployment."""
    selector = f"--selector=onceserve.dev/modeldeployment={name}"
    with _following(cluster, namespace, ["pods", selector], _POD_COLUMNS) as following:
        yield ReadyPods(following)
