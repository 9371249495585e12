"""The operator on real nodes, lost in every way, while clients ask a model without pause and never retry."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster.cluster import Cluster
from e2e.conftest import NODES, SYSTEM
from onceserve_operator.election import Terms
from support.killing import kill, processes
from support.operators import Operators, Pod
from support.outage import API_SERVER, ETCD, bring_back, lose
from support.served import Served, serving
from support.unaffected import unaffected
from support.waiting import eventually, steadily

FAILOVER = 15.0
HANDOVER = Terms().duration - 2
"""Less than it takes until a lease that nobody has left runs out."""
PAUSE = 60.0


@pytest.fixture(scope="module")
def served(installed: Cluster) -> Iterator[Served]:
    """The example in a namespace of its own."""
    with serving(installed, "e2e-availability") as example:
        yield example


@pytest.fixture
def operators(installed: Cluster) -> Operators:
    made = Operators(installed, SYSTEM)
    eventually(lambda: [is_ready(pod) for pod in made.pods()] == [True, True], "two operators are ready")
    return made


def is_ready(pod: Pod) -> bool:
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True"


def works_within(served: Served, seconds: float) -> float:
    """Ask for another number of replicas; return after how many seconds a Deployment has it."""
    replicas = 2 if served.get(f"mdep/{served.name}")["spec"]["replicas"] == 3 else 3
    began = time.monotonic()
    served.patch({"replicas": replicas})
    eventually(lambda: wanted(served) == replicas, "the operator works", seconds)
    return time.monotonic() - began


def wanted(served: Served) -> int:
    deployments = served.get("deployments", "-l", f"onceserve.dev/modeldeployment={served.name}")["items"]
    return sum(each["spec"]["replicas"] for each in deployments)


def test_two_run_on_different_nodes(operators: Operators) -> None:
    assert len({pod["spec"]["nodeName"] for pod in operators.pods()}) == 2


def test_a_killed_leader_is_replaced(operators: Operators, served: Served) -> None:
    def loss() -> None:
        leader = operators.leader()
        before = operators.holder()
        assert kill(leader)
        print(f"the next one worked after {works_within(served, FAILOVER):.1f} s")
        assert operators.holder() != before

    unaffected(served, loss)


def test_a_leader_that_was_paused_ends_and_writes_nothing(operators: Operators, served: Served) -> None:
    def loss() -> None:
        leader, before = operators.leader(), operators.holder()
        restarts = restarted(operators, leader)
        pids = list(processes(leader["metadata"]["uid"]))
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        paused = time.time()
        try:
            print(f"the next one worked after {works_within(served, FAILOVER):.1f} s")
            works_within(served, HANDOVER)
            steadily(lambda: operators.holder() != before, "another leads", max(0, PAUSE - (time.time() - paused)))
        finally:
            for pid in pids:
                if Path(f"/proc/{pid}").exists():
                    os.kill(pid, signal.SIGCONT)
        eventually(lambda: restarted(operators, leader) > restarts, "it has ended")
        assert operators.holder() != before

    unaffected(served, loss)


def restarted(operators: Operators, pod: Pod) -> int:
    """Return how often a pod's container was restarted."""
    name = pod["metadata"]["name"]
    found = next(each for each in operators.pods() if each["metadata"]["name"] == name)
    return sum(each["restartCount"] for each in found["status"]["containerStatuses"])


def test_an_operator_that_is_upgraded_hands_over_at_once(
    operators: Operators, served: Served, installed: Cluster
) -> None:
    def pods() -> set[str]:
        return {pod["metadata"]["uid"] for pod in served.pods()}

    def loss() -> None:
        before = pods()
        installed.kubectl("rollout", "restart", "-n", SYSTEM, "deployment/onceserve-operator")
        installed.kubectl("rollout", "status", "-n", SYSTEM, "deployment/onceserve-operator", "--timeout=3m")
        assert pods() == before
        print(f"the next one worked after {works_within(served, HANDOVER):.1f} s")

    served.wait_complete()
    unaffected(served, loss)


def test_an_api_server_that_restarts(operators: Operators, served: Served, installed: Cluster) -> None:
    def loss() -> None:
        lose(installed, API_SERVER, ETCD)
        time.sleep(12)
        bring_back(installed, NODES)
        print(f"work went on after {works_within(served, FAILOVER):.1f} s")

    unaffected(served, loss)
    operators.leader()
