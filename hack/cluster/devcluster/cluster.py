"""The cluster as a whole; the Python interface of the tests."""

import contextlib
import dataclasses
import hashlib
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from devcluster import addresses, binaries, cgroups, configs, forwarder, images, loading
from devcluster.control_plane import COMPONENTS, ControlPlane, Endpoints
from devcluster.errors import ClusterError
from devcluster.files import locked, write_atomically
from devcluster.layout import Layout, default_state_dir
from devcluster.network import Fabric, can_connect
from devcluster.node import Node, boot
from devcluster.preflight import check_nodes
from devcluster.processes import Process, kill
from devcluster.wait import wait_until

NODES_READY_SECONDS = 120
DNS_READY_SECONDS = 60
FORWARDER_SECONDS = 10
DEFINED_SECONDS = 60
CGROUP_PARENT = "/onceserve"
COLLECTIONS = {
    "ServiceAccount": "/api/v1/namespaces/kube-system/serviceaccounts",
    "ConfigMap": "/api/v1/namespaces/kube-system/configmaps",
    "Service": "/api/v1/namespaces/kube-system/services",
    "DaemonSet": "/apis/apps/v1/namespaces/kube-system/daemonsets",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
}


@dataclass(frozen=True)
class Spec:
    """What was asked for, and the ports of the host that it got."""

    nodes: int
    """0: the control plane only."""
    host_port: int
    etcd: int
    etcd_peer: int

    def endpoints(self) -> Endpoints:
        """Return where the control plane listens: in the fabric if there are nodes, else on the host."""
        if self.nodes:
            return Endpoints(2379, 2380, str(addresses.CONTROL_PLANE), 6443, self.host_port)
        return Endpoints(self.etcd, self.etcd_peer, "127.0.0.1", self.host_port, self.host_port)


@dataclass(frozen=True)
class Row:
    """One line of the status."""

    component: str
    pid: int | None
    node: str
    state: str


class Cluster:
    """A cluster by name; making the object starts nothing."""

    def __init__(self, name: str = "dev", state_dir: Path | None = None) -> None:
        self.name = name
        self.layout = Layout((state_dir or default_state_dir(name)).absolute())

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, for any client on this host."""
        return self.layout.kubeconfig

    @property
    def audit_log(self) -> Path:
        """One JSON line (audit.k8s.io/v1 Event) for each request that the API server answered."""
        return self.layout.audit_log

    @property
    def exists(self) -> bool:
        """Say whether there was an `up` and no `down` since."""
        return self.layout.spec.exists()

    def binary(self, name: str) -> Path:
        """Return the path of kubectl, helm or another of the cluster's programs."""
        return binaries.find(name)

    def up(self, nodes: int = 3, *, control_plane_only: bool = False) -> None:
        """Bring the cluster up, or what of it does not run; return when it can be used."""
        wanted = 0 if control_plane_only else nodes
        if not control_plane_only and not 1 <= nodes <= addresses.MAX_NODES:
            raise ClusterError(f"a cluster has 1 to {addresses.MAX_NODES} nodes, not {nodes}")
        if wanted and not self.exists:
            check_nodes(self.layout.root)
        self._build(wanted)
        with locked(self.layout.lock):
            self._settle(wanted)
            if wanted:
                self._up_with_nodes()
            else:
                self._up_control_plane()

    def down(self, *, keep_logs: bool = False) -> None:
        """End and remove everything; a cluster that is not there is no error."""
        if not self.layout.root.exists():
            return
        with locked(self.layout.lock):
            self._stop_everything()
            kept = {self.layout.lock, *([self.layout.logs] if keep_logs else [])}
            for path in set(self.layout.root.iterdir()) - kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            # Last: who waits for it begins with an empty directory.
            self.layout.lock.unlink()
        with contextlib.suppress(OSError):
            self.layout.root.rmdir()

    def load_images(self, archives: Sequence[Path]) -> None:
        """Import OCI archives into every node that runs; nodes started later get them too."""
        with locked(self.layout.lock):
            kept = [loading.keep(archive, self.layout.images) for archive in archives]
            loading.load([node for node in self._nodes() if node.is_booted], kept)

    def stop_node(self, name: str, *, link_only: bool = False) -> None:
        """Lose a node: all of it dies at once, or (link_only) it goes on running behind a cut link."""
        with locked(self.layout.lock):
            node = self._node(name)
            if link_only:
                node.fabric.set_link(node.name, "down")
            else:
                node.stop()

    def start_node(self, name: str) -> None:
        """Bring a lost node back; return when it is Ready."""
        with locked(self.layout.lock):
            self._start_nodes([self._node(name)])

    def exec(self, node: str, command: Sequence[str | Path]) -> "subprocess.CompletedProcess[str]":
        """Run a program of the host in a node's network, which knows Services and pods; return its output."""
        return subprocess.run(self.exec_command(node, command), capture_output=True, text=True, check=False)

    def exec_command(self, node: str, command: Sequence[str | Path]) -> list[str | Path]:
        """Return the command line that `exec` runs."""
        found = self._node(node)
        if not found.init.is_running:
            raise ClusterError(f"{node} does not run")
        return found.enter_network(command)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as administrator; return its output, raise with its complaint."""
        command = [str(self.binary("kubectl")), f"--kubeconfig={self.kubeconfig}", *arguments]
        result = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise ClusterError(f"kubectl {' '.join(arguments)}: {result.stderr}")
        return result.stdout

    def define(self, definitions: Path, *, server_side: bool = True) -> None:
        """Apply CustomResourceDefinitions, and what stands beside them; return when their resources can be made."""
        self.kubectl("apply", f"--server-side={str(server_side).lower()}", f"--filename={definitions}")
        # For `kubectl wait` a definition that has no conditions yet is an error.
        if not wait_until(lambda: self._are_established(definitions), DEFINED_SECONDS):
            raise ClusterError(f"{definitions}: not established within {DEFINED_SECONDS} s")

    def _are_established(self, definitions: Path) -> bool:
        found = json.loads(self.kubectl("get", f"--filename={definitions}", "--output=json"))
        of_definitions = [each for each in found.get("items", [found]) if each["kind"] == "CustomResourceDefinition"]
        conditions = [each.get("status", {}).get("conditions") or [] for each in of_definitions]
        return all(any((c["type"], c["status"]) == ("Established", "True") for c in each) for each in conditions)

    def status(self) -> list[Row]:
        """Return every component with its state."""
        if not self.exists:
            return []
        rows = [Row(process.component, process.pid, "", _state(process)) for process in self._control_processes()]
        for node in self._nodes():
            rows += [
                Row(process.component, process.pid, node.name, _node_state(node, process)) for process in node.processes
            ]
        return rows

    def _build(self, nodes: int) -> None:
        if not nodes:
            for binary in COMPONENTS:
                binaries.find_asset(binary)
            return
        for component in (binaries.PAUSE, binaries.ETCD, binaries.KUBERNETES, binaries.CONTAINERD, binaries.COREDNS):
            binaries.build(component)

    def _settle(self, nodes: int) -> None:
        """Remember what this cluster is; refuse to make it another one."""
        if self.exists:
            if self._spec().nodes != nodes:
                raise ClusterError(f"cluster {self.name} is there with {self._spec().nodes} nodes; `down` it first")
            return
        host_port, etcd, etcd_peer = free_ports(3)
        spec = Spec(nodes, host_port, etcd, etcd_peer)
        write_atomically(self.layout.spec, json.dumps(dataclasses.asdict(spec)))

    def _spec(self) -> Spec:
        if not self.exists:
            raise ClusterError(f"there is no cluster {self.name}; `up` makes it")
        return Spec(**json.loads(self.layout.spec.read_text()))

    def _up_control_plane(self) -> None:
        plane = self._control_plane()
        plane.prepare()
        plane.start_api()
        plane.wait_api()
        plane.start_controllers()
        plane.wait_controllers()

    def _up_with_nodes(self) -> None:
        fabric, plane, forwarder_process = self._fabric(), self._control_plane(), self._process("forwarder")
        if not fabric.is_ready:
            # What may still run has lost its network.
            self._stop_everything()
            fabric.start()
        plane.prepare()
        plane.start_api()
        if not forwarder_process.is_running:
            forwarder_process.start(self._forwarder_command(fabric))
        forwarder_process.wait_ready(lambda: _accepts(self._spec().host_port), FORWARDER_SECONDS)
        self._start_nodes(self._nodes())

    def _start_nodes(self, nodes: Sequence[Node]) -> None:
        """Machines and images need no API server: they come up while that does."""
        plane = self._control_plane()
        boot(nodes)
        kept = sorted(self.layout.images.glob("*.tar"))
        with loading.loading(nodes, [*images.core_archives(), *kept]):
            plane.wait_api()
            plane.start_controllers()
            for node in nodes:
                node.start_daemons()
            plane.wait_controllers()
        for manifest in configs.dns_manifests():
            plane.api.apply(manifest, COLLECTIONS[manifest["kind"]])
        self._wait_nodes(plane, nodes)
        if not wait_until(lambda: not _without_dns(nodes), DNS_READY_SECONDS):
            [node, *_] = _without_dns(nodes)
            raise node.process("kubelet").failure(f"had DNS not ready after {DNS_READY_SECONDS} s")

    def _wait_nodes(self, plane: ControlPlane, nodes: Sequence[Node]) -> None:
        names = {node.name for node in nodes}

        def ready() -> bool:
            for node in nodes:
                node.check_daemons()
            return names <= {name for name, is_ready in plane.api.node_readiness().items() if is_ready}

        if not wait_until(ready, NODES_READY_SECONDS):
            readiness = plane.api.node_readiness()
            unready = [node for node in nodes if not readiness.get(node.name)]
            raise unready[0].process("kubelet").failure(f"was not Ready after {NODES_READY_SECONDS} s")

    def _forwarder_command(self, fabric: Fabric) -> list[str | Path]:
        target = [str(addresses.CONTROL_PLANE), "6443"]
        return [sys.executable, Path(forwarder.__file__), str(self._spec().host_port), fabric.namespace, *target]

    def _stop_everything(self) -> None:
        """Nodes first: their daemons would only complain about the rest."""
        if not self.exists:
            return
        for node in self._nodes():
            node.stop()
        kill(self._control_processes())
        if self._spec().nodes:
            cgroups.remove(self._cgroup)
            cgroups.remove_if_empty(CGROUP_PARENT)

    def _control_processes(self) -> list[Process]:
        extra = ["forwarder", "fabric"] if self._spec().nodes else []
        return [self._process(component) for component in (*reversed(COMPONENTS), *extra)]

    def _process(self, component: str) -> Process:
        return Process(component, self.layout.processes / component, self.layout.logs / f"{component}.log")

    def _fabric(self) -> Fabric:
        return Fabric(self._process("fabric"), binaries.find("pause"))

    def _control_plane(self) -> ControlPlane:
        spec = self._spec()
        enter: Callable[[Sequence[str | Path]], list[str | Path]] = self._fabric().enter if spec.nodes else list
        return ControlPlane(self.name, self.layout, spec.endpoints(), enter)

    @property
    def _cgroup(self) -> str:
        # Clusters of one name may stand side by side in several state directories.
        suffix = hashlib.sha256(str(self.layout.root).encode()).hexdigest()[:8]
        return f"{CGROUP_PARENT}/{self.name}-{suffix}"

    def _nodes(self) -> list[Node]:
        plane, fabric = self._control_plane(), self._fabric()
        numbers = range(1, self._spec().nodes + 1)
        return [Node(number, plane, fabric, f"{self._cgroup}/{addresses.node_name(number)}") for number in numbers]

    def _node(self, name: str) -> Node:
        nodes = {node.name: node for node in self._nodes()}
        if name not in nodes:
            raise ClusterError(f"cluster {self.name} has no {name}; it has {', '.join(nodes) or 'no nodes'}")
        return nodes[name]


def _without_dns(nodes: Sequence[Node]) -> list[Node]:
    """Ask from inside: kube-proxy learns of a ready pod a moment after the API server does."""
    return [node for node in nodes if not can_connect(node.namespace, str(addresses.DNS_SERVICE), 53)]


def _state(process: Process) -> str:
    return "running" if process.is_running else "stopped"


def _node_state(node: Node, process: Process) -> str:
    return "disconnected" if process.is_running and not node.is_connected else _state(process)


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionError:
        return False
    return True


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def control_plane(name: str, state_dir: Path | None = None) -> Iterator[Cluster]:
    """Have a control plane without nodes for the duration of a block; needs no root."""
    cluster = Cluster(name, state_dir)
    try:
        cluster.up(control_plane_only=True)
        yield cluster
    finally:
        cluster.down()
