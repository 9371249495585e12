"""What a watch of a ModelDeployment tells, from change to change."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from devcluster.cluster import Cluster

_COLUMNS = "PHASE:.status.rollout.phase,READY:.status.readyReplicas"


@dataclass(frozen=True, slots=True)
class Moment:
    """The status at one moment."""

    phase: str
    ready: int
    """Pods that get traffic and answer."""


class Watch:
    """All that has been told so far."""

    def __init__(self, told: IO[str]) -> None:
        self._moments: list[Moment] = []
        self._thread = threading.Thread(target=self._follow, args=(told,))
        self._thread.start()

    def _follow(self, told: IO[str]) -> None:
        for line in told:
            phase, ready = line.split()
            # A number that is not there is 0.
            self._moments.append(Moment(phase, int(ready) if ready.isdecimal() else 0))

    def join(self) -> None:
        """Wait until nothing more can come."""
        self._thread.join()

    def taken(self) -> list[Moment]:
        """Return what has been told since the last time, and the moment before it."""
        taken, self._moments = self._moments, self._moments[-1:]
        return taken


@contextmanager
def watching(cluster: Cluster, namespace: str, name: str) -> Iterator[Watch]:
    """Have kubectl watch a ModelDeployment."""
    kubectl = [str(cluster.binary("kubectl")), f"--kubeconfig={cluster.kubeconfig}", f"--namespace={namespace}"]
    command = [*kubectl, "get", "mdep", name, "--watch", "--no-headers", f"--output=custom-columns={_COLUMNS}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, bufsize=1)
    assert process.stdout
    watch = Watch(process.stdout)
    try:
        yield watch
    finally:
        process.kill()
        process.wait()
        watch.join()
        process.stdout.close()
