"""Nodes that are lost and drained, and a last pod that is killed, while clients call."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from devcluster.cluster import Cluster
from e2e.conftest import NODES, SYSTEM
from support import chart_store
from support.calling import calling
from support.chart_store import ChartStore
from support.killing import kill
from support.loading import CLIENT_NODE, Window
from support.readiness import readiness, ready_pods
from support.served import Served, await_ready_pods, serving
from support.unaffected import unaffected
from support.waiting import eventually

NAMESPACE = "e2e-nodes"
STORE_NODE, NODE = "node-2", "node-3"
ALL_NODES = [f"node-{number + 1}" for number in range(NODES)]
HERE = {"kubernetes.io/hostname": NODE}
NOTICED = 10 + 3
"""Seconds until a cluster like this one takes a node for lost (`--node-monitor-grace-period=10s`), and tells of it."""
TOLD = 10
"""Seconds from the death of the last pod, as the cluster knows it, to Ready=False: what we promise."""
TOLERATED = 30
"""Seconds that pods stay with a lost node."""
STARTED = 60
"""Seconds in which pods start on a machine that has other work."""
MODEL = {"model": {"uri": "configmap://breast-cancer/model.onnx"}}
STORE = {"type": "Redis", "urlFrom": {"secretKeyRef": {"name": "store", "key": "url"}}}
SPEC: dict[str, Any] = {
    "idempotency": {"store": STORE, "lease": "5s", "retention": "1h"},
    # What is preferred by default must not keep pods from starting where it is required, either.
    "availability": {"spread": "Required"},
}


@pytest.fixture(scope="module")
def store(installed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChartStore]:
    directory, home = tmp_path_factory.mktemp("volume"), tmp_path_factory.mktemp("helm")
    with chart_store.enabled(installed, SYSTEM, STORE_NODE, directory, home) as started:
        yield started


@pytest.fixture(scope="module")
def served(installed: Cluster, store: ChartStore) -> Iterator[Served]:
    """The example, one pod on each node, with a store."""
    with serving(installed, NAMESPACE) as example:
        example.kubectl("create", "secret", "generic", "store", f"--from-literal=url={store.url}")
        example.patch(SPEC)
        example.wait_complete()
        eventually(lambda: len(example.every_pod()) == 3, "those without a store are gone")
        yield example


class Single(Served):
    """A model that has one pod."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        super().__init__(cluster, NAMESPACE)
        self.name = name

    def start(self, **spec: Any) -> None:
        """Have its pod start on the node that things happen to."""
        with cordoned(self.cluster, *(each for each in ALL_NODES if each != NODE)):
            self.apply(self.name, {**MODEL, **spec})
            self.wait("Ready", name=self.name)
        assert self.node() == NODE

    def node(self) -> str | None:
        """Return where its pod is."""
        [pod] = self.pods()
        node: str | None = pod["spec"].get("nodeName")
        return node

    def allowed(self) -> int:
        """Return how many pods its PodDisruptionBudget would let go now, if they were ready."""
        budget = self.get(f"pdb/{self.name}")
        return int(budget["status"]["disruptionsAllowed"])


@contextlib.contextmanager
def cordoned(cluster: Cluster, *nodes: str) -> Iterator[None]:
    """Let no pod start on some nodes for the duration of a block."""
    cluster.kubectl("cordon", *nodes)
    try:
        yield
    finally:
        cluster.kubectl("uncordon", *nodes)


def test_a_last_pod_that_is_killed_is_told_of_and_comes_back(served: Served) -> None:
    single = Single(served.cluster, "killed")
    single.start()
    with readiness(single.cluster, NAMESPACE, single.name) as ready:
        for _ in range(2):
            killed = time.time()
            assert kill(single.pods()[0])
            down = ready.becomes("False", since=killed, timeout=TOLD)
            back = ready.becomes("True", since=down, timeout=60)
            print(f"killed: Ready=False after {down - killed:.1f} s, Ready again after {back - killed:.1f} s")
    single.kubectl("delete", "mdep", single.name)


def test_a_drained_node_costs_no_call(served: Served) -> None:
    served.patch({"replicas": 6})
    await_ready_pods(served, 6)
    single, crashing = Single(served.cluster, "one"), Single(served.cluster, "crashing")
    single.start()
    crashing.start(server={"nodeSelector": HERE}, availability={"maxUnavailable": 0})
    assert sum(pod["spec"]["nodeName"] == NODE for pod in served.pods()) == 2
    crash(crashing)
    assert crashing.allowed() == 0

    def loss() -> None:
        began = time.time()
        served.cluster.kubectl("drain", NODE, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=3m")
        print(f"drained in {time.time() - began:.1f} s")

    with ready_pods(served.cluster, NAMESPACE, served.name) as pods, single.running_load("closed,new,2") as load:
        began = pods.reach(6, since=0, timeout=10)
        try:
            unaffected(served, loss)
            await_ready_pods(served, 6)
            eventually(single.ready_pods, "the single one is ready elsewhere", STARTED)
            time.sleep(1)
            least = min(len(moment.nodes) for moment in pods.moments(began))
            print(f"at least {least} of 6 pods were ready; one replica: {outage(load.end())}")
            assert least >= 5
            assert NODE not in {pod["spec"]["nodeName"] for pod in served.pods()}
            assert single.node() != NODE
            assert crashing.node() is None
        finally:
            served.cluster.kubectl("uncordon", NODE)
    crashing.wait("Ready", name=crashing.name)
    served.kubectl("delete", "mdep", single.name, crashing.name)


def crash(single: Single) -> None:
    """Kill its server again and again, until the kubelet takes its time to start it."""

    def waits() -> bool:
        [pod] = single.pods()
        [container] = pod["status"]["containerStatuses"]
        if container["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff" and container["restartCount"] > 1:
            return True
        kill(pod)
        return False

    eventually(waits, "it crashes in a loop", poll=0.5)


def outage(seen: Window) -> str:
    """Return how long calls failed."""
    moments = [failure["at"] for failure in seen.failures]
    seconds = max(moments) - min(moments) if moments else 0
    words = {failure["words"] for failure in seen.failures}
    return f"{seen.calls} calls, {seen.failed} failed, within {seconds:.1f} s: {sorted(words)}"


def leave_from_ports(cluster: Cluster, first: int, last: int) -> None:
    """Have the clients' new connections leave from ports of this range."""
    script = f"echo {first} {last} > /proc/sys/net/ipv4/ip_local_port_range"
    result = cluster.exec(CLIENT_NODE, ["sh", "-c", script])
    assert result.returncode == 0, result.stderr


@pytest.fixture
def fresh_ports(served: Served) -> Iterator[Callable[[], None]]:
    """What has the clients leave from ports that they did not use before.

    For two minutes their node remembers for which pod each connection was that hung, and from the same port to the same
    Service a call hangs again (docs/availability.md).
    """
    leave_from_ports(served.cluster, 32768, 46767)
    try:
        yield lambda: leave_from_ports(served.cluster, 46768, 60999)
    finally:
        leave_from_ports(served.cluster, 32768, 60999)


def test_a_lost_node_costs_no_answer(served: Served, store: ChartStore, fresh_ports: Callable[[], None]) -> None:
    # A drain may have left none of them there.
    served.patch({"replicas": 0})
    eventually(lambda: not served.every_pod(), "all are gone")
    served.patch({"replicas": 3})
    await_ready_pods(served, 3)
    assert NODE in {pod["spec"]["nodeName"] for pod in served.pods()}
    single = Single(served.cluster, "alone")
    single.start()
    with (
        ready_pods(served.cluster, NAMESPACE, served.name) as pods,
        readiness(single.cluster, NAMESPACE, single.name) as ready,
        calling(served) as seen,
    ):
        time.sleep(3)
        served.cluster.stop_node(NODE)
        lost = time.time()
        try:
            down = ready.becomes("False", since=lost, timeout=NOTICED + TOLD)
            # Services of other nodes learn of it within that time.
            time.sleep(max(lost + NOTICED - time.time(), 0))
            fresh_ports()
            restored = pods.reach(3, outside=NODE, since=lost, timeout=NOTICED + TOLERATED + STARTED)
            back = ready.becomes("True", since=down, timeout=TOLERATED + STARTED)
        finally:
            started = time.time()
            served.cluster.start_node(NODE)
        eventually(lambda: len(served.every_pod()) == 3, "what the node had is gone")
        time.sleep(3)
    clean = max(seen.failed_first)
    print(f"node lost: {seen.summary()}")
    print(f"traffic is clean after {clean - lost:.1f} s, N pods are ready after {restored - lost:.1f} s")
    print(f"one replica: Ready=False after {down - lost:.1f} s, Ready again after {back - lost:.1f} s")
    seen.check_answers()
    keys, attempts, running = store.records()
    assert (keys, running) == (len(seen.calls), 0)
    print(f"{keys} keys, {attempts} attempts")
    late = [call.tries for call in seen.calls if call.tries[0].at == clean]
    assert lost < clean < lost + NOTICED < started, late
    assert down < lost + NOTICED + TOLD
    single.kubectl("delete", "mdep", single.name)
