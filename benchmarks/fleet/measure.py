"""What the operator takes for so many ModelDeployments, and how soon it acts."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Final

from kubernetes.config import new_client_from_config

from benchmarks import memory
from benchmarks.errors import BenchmarkError
from benchmarks.fleet import audit, population
from benchmarks.fleet.population import PATIENCE
from devcluster.cluster import Cluster, control_plane
from support.api_server import Api
from support.audit import position
from support.operator_process import OperatorProcess, install_rights
from support.outage import lose
from support.pods import answering
from support.waiting import eventually

CRD: Final = Path(__file__).parents[2] / "crds" / "modeldeployments.onceserve.dev.yaml"
SCHEDULER: Final = "kube-scheduler"
RESYNC: Final = 60.0
"""Seconds, as by default."""
CHANGES: Final = 20
SETTLING: Final = 15.0
"""Seconds after which a start has nothing left to do."""
QUIET: Final = 2
"""Minutes that are watched in which nothing happens."""


@dataclass(frozen=True)
class Fleet:
    """What the operator took for so many resources."""

    resources: int
    created: float
    """Seconds in which those came, one after the other, that the size before did not have, until all are Ready."""
    changes: Sequence[float]
    """Seconds from a creation to its Deployment, while nothing else happens."""
    steady_calls: Mapping[str, float]
    """Calls a minute when nothing happens, by verb and resource."""
    steady_cpu: float
    """Seconds of processor time a minute when nothing happens."""
    rss: float
    """Mebibytes."""
    restart: float
    """Seconds from the start of the process until it has looked at all."""
    restart_cpu: float
    """Seconds of processor time until then, and until its watches are settled."""
    restart_calls: Mapping[str, float]
    """Calls in the same time."""
    failover: "Failover"


@dataclass(frozen=True)
class Failover:
    """What came of a leader that was killed while another stood by, in seconds."""

    led: float
    """From the end of the one until the other leads."""
    looked: float
    """From then until it has looked at all."""
    first: float
    """From a creation just after the leader's end to its Deployment."""
    others: Sequence[float]
    """The same, of those made one after the other from then on, while the other was still looking."""


def measure(sizes: Sequence[int], scratch: Path) -> list[Fleet]:
    """Return what the operator takes for each number of resources, of which each must be more than the one before."""
    if list(sizes) != sorted(set(sizes)):
        raise BenchmarkError(f"--sizes must grow, not {' '.join(map(str, sizes))}")
    with control_plane("fleet", scratch / "cluster") as cluster, answering(scratch / "pods"):
        cluster.define(CRD)
        # Without nodes it would try every pod again and again.
        lose(cluster, SCHEDULER)
        kubeconfig = install_rights(cluster, scratch)
        with new_client_from_config(str(cluster.kubeconfig)) as client:
            api = Api(client)
            population.prepare(api)
            return [
                _Run(cluster, api, kubeconfig, scratch, before, size).measure()
                for before, size in zip((0, *sizes), sizes, strict=False)
            ]


@dataclass(frozen=True)
class _Run:
    """One size."""

    cluster: Cluster
    api: Api
    kubeconfig: Path
    scratch: Path
    before: int
    size: int

    def measure(self) -> Fleet:
        with self._operator("first") as leader:
            self._say("are made")
            created = _timed(lambda: population.fill(self.api, self.before, self.size, lambda: _revive(leader)))
            self._say("are there")
            changes = [population.create_one(self.api, f"change-{number}") for number in range(CHANGES)]
            with self._operator("second") as standby:
                failover = self._failover(leader, standby)
            population.remove_changes(self.api)
        restart, restart_cpu, restart_calls, steady = self._restart()
        return Fleet(self.size, created, changes, *steady, restart, restart_cpu, restart_calls, failover)

    def _failover(self, leader: OperatorProcess, standby: OperatorProcess) -> Failover:
        self._say("lose their leader")
        leader.stop(signal.SIGKILL)
        killed, done = time.monotonic(), Event()
        with ThreadPoolExecutor(1) as pool:
            worked = pool.submit(self._create_until, done)
            try:
                led = _timed(lambda: eventually(lambda: standby.metric("onceserve_operator_leader"), "led", PATIENCE))
                self._await_looked(standby)
                looked = time.monotonic() - killed - led
            finally:
                done.set()
            first, *others = worked.result(PATIENCE)
        return Failover(led, looked, first, others)

    def _create_until(self, done: Event) -> list[float]:
        found: list[float] = []
        while not done.is_set():
            found.append(population.create_one(self.api, f"failover-{len(found)}"))
        return found

    def _restart(self) -> tuple[float, float, dict[str, float], tuple[dict[str, float], float, float]]:
        self._say("are met by a new operator")
        since, began = position(self.cluster.audit_log), time.monotonic()
        with self._operator("third") as operator:
            self._await_looked(operator)
            restart = time.monotonic() - began
            time.sleep(SETTLING)
            calls, cpu = audit.calls(self.cluster.audit_log, since), _cpu(operator)
            self._say("are at rest")
            steady = self._steady(operator)
        return restart, cpu, dict(calls), steady

    def _steady(self, operator: OperatorProcess) -> tuple[dict[str, float], float, float]:
        since, cpu = position(self.cluster.audit_log), _cpu(operator)
        time.sleep(QUIET * 60)
        calls = audit.calls(self.cluster.audit_log, since)
        spent = _cpu(operator) - cpu
        rss = memory.of([operator.pid]).rss
        return {call: number / QUIET for call, number in calls.items()}, spent / QUIET, rss

    def _await_looked(self, operator: OperatorProcess) -> None:
        # It has a metric for each resource that has had a pass.
        desired = "onceserve_operator_desired_replicas"
        eventually(lambda: operator.metric(desired) >= self.size, "all have been looked at", PATIENCE, poll=0.5)

    @contextmanager
    def _operator(self, name: str) -> Iterator[OperatorProcess]:
        operator = OperatorProcess(self.kubeconfig, self.scratch / f"{name}-{self.size}.log", RESYNC)
        operator.start()
        try:
            yield operator
            if operator.exit_code() not in {None, -signal.SIGKILL}:
                raise BenchmarkError(f"the operator has ended: {operator.complaints()[-1]}")
        finally:
            operator.stop()

    def _say(self, what: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {self.size} ModelDeployments {what}", file=sys.stderr, flush=True)


def _revive(operator: OperatorProcess) -> None:
    """Start it again where it has ended, as a kubelet does: on a busy machine API servers are silent at times."""
    if operator.exit_code() is not None:
        operator.start()


def _cpu(operator: OperatorProcess) -> float:
    fields = Path(f"/proc/{operator.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _timed(action: Callable[[], object]) -> float:
    start = time.monotonic()
    action()
    return time.monotonic() - start
