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

ABSENT = "<none>"
"""The cell of a field that is not there."""


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
def following(cluster: Cluster, namespace: str, what: Sequence[str], columns: Sequence[str]) -> Iterator[Following]:
    """Have kubectl watch objects, and tell of each the fields at these paths of `.object`."""
    kubectl = [str(cluster.binary("kubectl")), f"--kubeconfig={cluster.kubeconfig}", f"--namespace={namespace}"]
    paths = (".type", *(f".object{column}" for column in columns))
    table = ",".join(f"C{number}:{path}" for number, path in enumerate(paths))
    options = ["--watch", "--output-watch-events", "--no-headers", f"--output=custom-columns={table}"]
    process = subprocess.Popen([*kubectl, "get", *what, *options], stdout=subprocess.PIPE, text=True, bufsize=1)
    assert process.stdout
    told = Following(process.stdout)
    try:
        eventually(lambda: told.rows, f"kubectl tells of {' '.join(what)}")
        yield told
    finally:
        process.kill()
        process.wait()
        told.join()
        process.stdout.close()
