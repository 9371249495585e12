"""The cluster of hack/cluster itself, on real nodes. Needs root and a Linux that the cluster's preflight accepts."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from devcluster import cgroups, configs, images
from devcluster.cluster import Cluster, control_plane
from devcluster.errors import ClusterError
from devcluster.network import BRIDGE
from devcluster.processes import Identity, Stat, is_alive
from devcluster.wait import wait_until

# A first run builds Kubernetes.
pytestmark = pytest.mark.timeout(1800)
DEVCLUSTER = Path(__file__).parents[2] / "hack" / "cluster"
NODES = ["node-1", "node-2"]


@dataclass(frozen=True)
class Traces:
    """What a running cluster has on the machine, and what the machine had before it."""

    mounts: set[str]
    links: set[str]
    namespaces: set[str]
    processes: set[Identity]
    networks: set[str]


def lines(command: list[str]) -> set[str]:
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines())


def machine_links() -> set[str]:
    return {line.split(": ")[1] for line in lines(["ip", "-o", "link"])}


def machine_mounts() -> set[str]:
    return set(Path("/proc/mounts").read_text().splitlines())


def all_stats() -> dict[int, Stat]:
    stats = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            stat = Stat.parse(path.read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue
        stats[stat.identity.pid] = stat
    return stats


def parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def descendants(roots: set[int]) -> set[Identity]:
    stats, family = all_stats(), set(roots)
    parents = {pid: parent(pid) for pid in stats}
    while more := {pid for pid, above in parents.items() if above in family} - family:
        family |= more
    return {stats[pid].identity for pid in family if pid in stats}


def network(pid: int) -> str | None:
    try:
        return str(Path(f"/proc/{pid}/ns/net").readlink())
    except OSError:
        return None


def traces(cluster: Cluster) -> Traces:
    processes = descendants({row.pid for row in cluster.status() if row.pid})
    networks = {found for process in processes if (found := network(process.pid))}
    own = networks - {network(os.getpid())}
    return Traces(machine_mounts(), machine_links(), lines(["ip", "netns"]), processes, {n for n in own if n})


def own_cgroups(name: str) -> list[Path]:
    return [path for tree in cgroups.hierarchies() for path in (tree / "onceserve").glob(f"{name}-*")]


def assert_nothing_left(cluster: Cluster, before: Traces, during: Traces) -> None:
    assert [process for process in during.processes if is_alive(process)] == []
    assert during.networks & {found for pid in all_stats() if (found := network(pid))} == set()
    # Others may mount things of theirs meanwhile.
    places = (str(cluster.layout.root), "nsfs", "kubelet", "containerd", "cni")
    mounts = machine_mounts() - before.mounts
    assert [mount for mount in mounts if any(place in mount for place in places)] == []
    assert machine_links() - before.links == set()
    assert lines(["ip", "netns"]) - before.namespaces == set()
    assert own_cgroups(cluster.name) == []
    assert not cluster.layout.root.exists()


def start_pod(cluster: Cluster, name: str, node: str, *arguments: str) -> None:
    container = {"name": "probe", "image": configs.PROBE_IMAGE, "args": list(arguments)}
    metadata = {"name": name, "labels": {"app": name}}
    spec = {"nodeName": node, "containers": [container], "terminationGracePeriodSeconds": 0}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(pod))
    cluster.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")


def probe(cluster: Cluster, pod: str, command: str, argument: str) -> str:
    return cluster.kubectl("exec", pod, "--", "/probe", command, argument).strip()


def node_state(cluster: Cluster, node: str) -> str:
    template = '{.status.conditions[?(@.type=="Ready")].status}'
    return cluster.kubectl("get", "node", node, f"--output=jsonpath={template}")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    cluster = Cluster("test-cluster")
    cluster.down()
    try:
        cluster.up(nodes=2)
        cluster.load_images([images.probe_archive()])
        for node in NODES:
            start_pod(cluster, f"pod-{node}", node, "serve", ":8080")
            cluster.kubectl("expose", "pod", f"pod-{node}", f"--name=server-{node}", "--port=80", "--target-port=8080")
        yield cluster
    finally:
        cluster.down()


def test_all_nodes_are_ready(cluster: Cluster) -> None:
    assert {node: node_state(cluster, node) for node in NODES} == dict.fromkeys(NODES, "True")


def test_a_second_up_finds_the_first(cluster: Cluster) -> None:
    before = cluster.status()
    begun = time.monotonic()
    cluster.up(nodes=2)
    assert time.monotonic() - begun < 2
    assert cluster.status() == before


def test_another_size_is_refused(cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match=r"is there with 2 nodes; `down` it first"):
        cluster.up(nodes=3)


@pytest.mark.parametrize("node", NODES)
def test_pods_of_every_node_resolve_services(cluster: Cluster, node: str) -> None:
    address = cluster.kubectl("get", "service", "server-node-1", "--output=jsonpath={.spec.clusterIP}")
    assert probe(cluster, f"pod-{node}", "lookup", "server-node-1.default.svc.cluster.local") == address
    assert probe(cluster, f"pod-{node}", "lookup", "server-node-1") == address


def test_a_name_outside_the_cluster_does_not_exist(cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match="no such host"):
        probe(cluster, "pod-node-1", "lookup", "example.com")


@pytest.mark.parametrize("origin", NODES)
@pytest.mark.parametrize("target", NODES)
def test_services_reach_pods_of_every_node_from_every_node(cluster: Cluster, origin: str, target: str) -> None:
    answer = probe(cluster, f"pod-{origin}", "get", f"http://server-{target}")
    assert answer == f"pod-{target}"


def test_the_api_server_reaches_pods(cluster: Cluster) -> None:
    path = "/api/v1/namespaces/default/services/server-node-2:80/proxy/"
    assert cluster.kubectl("get", "--raw", path).strip() == "pod-node-2"


def test_programs_of_the_host_reach_services_from_a_node(cluster: Cluster) -> None:
    address = cluster.kubectl("get", "service", "server-node-2", "--output=jsonpath={.spec.clusterIP}")
    script = f"import urllib.request; print(urllib.request.urlopen('http://{address}').read().decode())"
    result = cluster.exec("node-1", [sys.executable, "-c", script])
    assert (result.returncode, result.stdout.strip()) == (0, "pod-node-2")


def test_requests_are_in_the_audit_log(cluster: Cluster) -> None:
    cluster.kubectl("get", "configmap", "coredns", "--namespace=kube-system")

    def names() -> set[str | None]:
        events = map(json.loads, cluster.audit_log.read_text().splitlines())
        return {event.get("objectRef", {}).get("name") for event in events if "kubectl" in event.get("userAgent", "")}

    assert wait_until(lambda: "coredns" in names(), 5)


def test_an_image_that_is_there_is_not_imported_again(cluster: Cluster) -> None:
    begun = time.monotonic()
    cluster.load_images([images.probe_archive()])
    assert time.monotonic() - begun < 2


def test_the_switch_has_an_address_that_no_node_takes_away(cluster: Cluster) -> None:
    fabric = next(row.pid for row in cluster.status() if row.component == "fabric")
    command = ["nsenter", f"--net=/proc/{fabric}/ns/net", "ip", "-json", "link"]
    links = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    holders = {link["address"]: link["ifname"] for link in links if link["ifname"] in (*NODES, BRIDGE)}
    assert sorted(holders.values()) == sorted([*NODES, BRIDGE])


def test_a_stopped_node_is_lost_and_comes_back_with_its_images(cluster: Cluster) -> None:
    cluster.stop_node("node-2")
    assert wait_until(lambda: node_state(cluster, "node-2") == "Unknown", 30)
    # The others stay connected.
    assert node_state(cluster, "node-1") == "True"
    assert [row.component for row in cluster.status() if row.node == "node-2" and row.pid] == []
    cluster.start_node("node-2")
    assert node_state(cluster, "node-2") == "True"
    start_pod(cluster, "returned", "node-2", "serve", ":8080")
    answers: list[str] = []
    # Its kube-proxy still writes the rules of Services.
    assert wait_until(lambda: reaches(cluster, "returned", "http://server-node-1", answers, "pod-node-1"), 30), answers


def reaches(cluster: Cluster, pod: str, url: str, answers: list[str], expected: str) -> bool:
    try:
        answers.append(probe(cluster, pod, "get", url))
    except ClusterError as error:
        answers.append(str(error))
    return answers[-1] == expected


def test_a_cut_link_is_a_partition(cluster: Cluster) -> None:
    cluster.stop_node("node-2", link_only=True)
    assert wait_until(lambda: node_state(cluster, "node-2") == "Unknown", 30)
    assert {row.state for row in cluster.status() if row.node == "node-2"} == {"disconnected"}
    cluster.start_node("node-2")
    assert node_state(cluster, "node-2") == "True"


def devcluster(*arguments: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": str(DEVCLUSTER)}
    command = [sys.executable, "-m", "devcluster", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def interrupt_up(cluster: Cluster, seconds: float, with_signal: signal.Signals) -> None:
    with devcluster("up", "--name", cluster.name, "--nodes", "1") as process:
        time.sleep(seconds)
        process.send_signal(with_signal)
        process.communicate()


def test_an_interrupted_up_is_mended_and_down_leaves_nothing() -> None:
    cluster = Cluster("test-cluster-mended")
    cluster.down()
    before = traces(cluster)
    try:
        for seconds in (0.15, 0.3, 0.5, 0.8, 1.5, 3):
            interrupt_up(cluster, seconds, signal.SIGKILL)
        interrupt_up(cluster, 1, signal.SIGINT)
        cluster.up(nodes=1)
        during = traces(cluster)
        assert len(during.processes) > len(cluster.status())
        assert during.networks
    finally:
        cluster.down()
    assert_nothing_left(cluster, before, during)


@pytest.mark.parametrize("seconds", [0.2, 0.6, 1.2, 4])
def test_down_after_an_interrupted_up_leaves_nothing(seconds: float) -> None:
    cluster = Cluster("test-cluster-interrupted")
    cluster.down()
    before = traces(cluster)
    interrupt_up(cluster, seconds, signal.SIGKILL)
    during = traces(cluster)
    cluster.down()
    assert_nothing_left(cluster, before, during)


def test_a_failure_to_start_tells_component_command_and_log() -> None:
    cluster = Cluster("test-cluster-broken")
    cluster.down()
    try:
        cluster.up(control_plane_only=True)
        cluster.down(keep_logs=True)
        cluster.layout.etcd.write_text("not a directory")
        with pytest.raises(ClusterError) as caught:
            cluster.up(control_plane_only=True)
    finally:
        cluster.down()
    assert re.search(r"(?s)etcd .*command: \S*/etcd --data-dir=.*log \(.*not a directory", str(caught.value))


def test_clusters_stand_side_by_side_and_a_control_plane_collects_garbage() -> None:
    with control_plane("test-cluster-a") as one, control_plane("test-cluster-b") as other:
        one.kubectl("create", "configmap", "owner")
        uid = one.kubectl("get", "configmap", "owner", "--output=jsonpath={.metadata.uid}")
        owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
        owned = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owned", "ownerReferences": [owner]}}
        one.kubectl("create", "--filename=-", stdin=json.dumps(owned))
        one.kubectl("delete", "configmap", "owner")
        assert wait_until(lambda: "owned" not in one.kubectl("get", "configmaps", "--output=name"), 30)
        assert "owner" not in other.kubectl("get", "configmaps", "--output=name")
    assert not one.layout.root.exists()
    assert not other.layout.root.exists()
