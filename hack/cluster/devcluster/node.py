"""One node: a process 1 with network, mounts and pids of its own; killing it is pulling the plug."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from devcluster import addresses, binaries, cgroups, configs
from devcluster.control_plane import CA, ControlPlane
from devcluster.errors import ClusterError
from devcluster.files import write_atomically
from devcluster.network import BRIDGE, Fabric, is_paused
from devcluster.preflight import SYSTEM_PATH, cni_directory
from devcluster.processes import Process, kill

INSIDE = "/run/node"
START_SECONDS = 60
# It prepares the machine that the node believes to be, then becomes `pause`. The host's /proc stays until the end, for
# the paths in it. Its own /run hides the host's sockets; its own /var/lib and /var/log make all default paths hold.
NODE_INIT = """
set -e
node=$0 name=$1 fabric=$2 address=$3 gateway=$4 subnet=$5 pause=$6 kubernetes=$7 containerd=$8 hardware=$9
mount --make-rshared /
mount -t tmpfs tmpfs "$node/run"
mkdir "$node/run/node" "$node/run/kubernetes" "$node/run/containerd-bin" "$node/run/init"
mount --bind "$node/files" "$node/run/node"
mount --bind "$kubernetes" "$node/run/kubernetes"
mount --bind "$containerd" "$node/run/containerd-bin"
mount --bind "$pause" "$node/run/init"
in_fabric() { nsenter --net="$fabric" -- "$@"; }
in_fabric ip link delete "$name" 2>/dev/null || true
ip link add eth0 address "$hardware" type veth peer name "$name" netns "$fabric"
in_fabric ip link set "$name" master BRIDGE up
in_fabric ip route replace "$subnet" via "${address%/*}"
ip link set lo up
ip address add "$address" dev eth0
ip link set eth0 up
ip route add default via "$gateway"
echo 1 > /proc/sys/net/ipv4/ip_forward
mount --bind "$node/log" /var/log
mount --rbind "$node/run" /run
mount --bind /run/node/lib /var/lib
# The host's name servers are out of reach: without any, a name fails at once and not after a minute.
if [ -e /etc/resolv.conf ]; then mount --bind /dev/null /etc/resolv.conf; fi
mount -t proc proc /proc
exec /run/init/pause
""".replace("BRIDGE", BRIDGE)
DAEMONS = ("containerd", "kubelet", "kube-proxy")


@dataclass(frozen=True)
class Node:
    """One node of a cluster."""

    number: int
    control_plane: ControlPlane
    fabric: Fabric
    cgroup: str

    @property
    def name(self) -> str:
        """The name of the Node object."""
        return addresses.node_name(self.number)

    @property
    def directory(self) -> Path:
        """What the node keeps over its restarts."""
        return self.control_plane.layout.node(self.name)

    @property
    def init(self) -> Process:
        """Process 1 of the node."""
        return self.process("init")

    @property
    def keeper(self) -> Process:
        """The parent of process 1, outside the node."""
        return self.process("keeper")

    @property
    def processes(self) -> list[Process]:
        """All that the tool started of this node."""
        return [self.keeper, self.init, *map(self.process, DAEMONS)]

    @property
    def is_booted(self) -> bool:
        """Say whether process 1 and containerd run, without which the others cannot."""
        return is_paused(self.init) and self.process("containerd").is_running

    @property
    def is_running(self) -> bool:
        """Say whether all of it runs."""
        return is_paused(self.init) and all(process.is_running for process in self.processes)

    @property
    def is_connected(self) -> bool:
        """Say whether the node's link is up."""
        return self.fabric.link_is_up(self.name)

    def process(self, component: str) -> Process:
        """Return one of the node's processes."""
        layout, name = self.control_plane.layout, f"{self.name}-{component}"
        return Process(name, layout.processes / name, layout.logs / f"{name}.log")

    def enter(self, command: Sequence[str | Path]) -> list[str | Path]:
        """Return the command that runs another one as a process of this node."""
        return ["nsenter", f"--target={self.init.pid}", "--net", "--mount", "--pid", "--", *command]

    @property
    def namespace(self) -> Path:
        """The file that stands for the node's network namespace."""
        return Path(f"/proc/{self.init.pid}/ns/net")

    def enter_network(self, command: Sequence[str | Path]) -> list[str | Path]:
        """Return the command that runs a program of the host in the network of this node."""
        return ["nsenter", f"--target={self.init.pid}", "--net", "--", *command]

    def start_init(self) -> None:
        """Start process 1, which prepares the rest."""
        for name in ("run", "log", "files/lib"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        self._write_files(self.directory / "files")
        cgroups.create(self.cgroup)
        unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--propagation=private"]
        self.keeper.start([*unshare, *self.init.recording(["sh", "-c", NODE_INIT, *self._init_arguments()])])

    def _init_arguments(self) -> list[str | Path]:
        return [
            self.directory,
            self.name,
            self.fabric.namespace,
            f"{addresses.node_address(self.number)}/{addresses.FABRIC_NETWORK.prefixlen}",
            str(addresses.CONTROL_PLANE),
            str(addresses.pod_subnet(self.number)),
            *map(binaries.build, (binaries.PAUSE, binaries.KUBERNETES, binaries.CONTAINERD)),
            addresses.hardware_address(addresses.node_address(self.number)),
        ]

    def _write_files(self, directory: Path) -> None:
        store = self.control_plane.store
        host = str(addresses.node_address(self.number))
        store.pair(self.name, CA, f"system:node:{self.name}", ["system:nodes"], [self.name, host])
        for name, origin in {
            "ca.crt": store.certificate(CA),
            "kubelet.crt": store.certificate(self.name),
            "kubelet.key": store.key(self.name),
        }.items():
            shutil.copy(origin, directory / name)
        server = f"https://{addresses.CONTROL_PLANE}:{self.control_plane.endpoints.api_port}"
        self.control_plane.write_kubeconfig(directory / "kubelet.kubeconfig", self.name, server)
        self.control_plane.write_kubeconfig(directory / "kube-proxy.kubeconfig", "kube-proxy", server)
        configs.write_yaml(directory / "kubelet.yaml", configs.kubelet(INSIDE, self.cgroup))
        configs.write_yaml(directory / "kube-proxy.yaml", configs.kube_proxy(f"{INSIDE}/kube-proxy.kubeconfig"))
        write_atomically(directory / "cni" / "10-pods.conflist", json.dumps(configs.cni(self.number), indent=2))
        write_atomically(directory / "containerd.toml", configs.containerd(cni_binaries(), f"{INSIDE}/cni"))

    def start_containerd(self) -> None:
        """Wait until the machine is prepared, then start its container runtime."""
        self.keeper.wait_ready(lambda: is_paused(self.init), START_SECONDS)
        self._start("containerd", "/run/containerd-bin/containerd", f"--config={INSIDE}/containerd.toml")

    @property
    def socket(self) -> Path:
        """Containerd's socket, as seen from outside."""
        return Path(f"/proc/{self.init.pid}/root{configs.CONTAINERD_SOCKET}")

    def wait_containerd(self) -> None:
        """Wait until the container runtime serves."""
        self.process("containerd").wait_ready(self.socket.exists, START_SECONDS)

    def start_daemons(self) -> None:
        """Start what makes the machine a node, as far as it does not run."""
        self._start(
            "kubelet",
            "/run/kubernetes/kubelet",
            f"--config={INSIDE}/kubelet.yaml",
            f"--kubeconfig={INSIDE}/kubelet.kubeconfig",
            f"--hostname-override={self.name}",
            f"--node-ip={addresses.node_address(self.number)}",
        )
        arguments = (f"--config={INSIDE}/kube-proxy.yaml", f"--hostname-override={self.name}")
        self._start("kube-proxy", "/run/kubernetes/kube-proxy", *arguments)

    def _start(self, component: str, program: str, *arguments: str) -> None:
        process = self.process(component)
        if not process.is_running:
            path = f"/run/kubernetes:/run/containerd-bin:{SYSTEM_PATH}"
            process.start(self.enter([program, *arguments]), {"PATH": path})

    def stop(self) -> None:
        """Pull the plug: every process of the node dies at once, and its mounts and links go with them."""
        if self.fabric.is_ready:
            self.fabric.remove_link(self.name)
        kill(self.processes)
        cgroups.remove(self.cgroup)

    def check_daemons(self) -> None:
        """Raise with its log where a daemon ended."""
        for process in map(self.process, DAEMONS):
            if not process.is_running:
                raise process.failure("ended")


def boot(nodes: Sequence[Node]) -> None:
    """Start the machines and their container runtimes side by side, those that do not run."""
    dead = [node for node in nodes if not node.is_booted]
    for node in dead:
        node.stop()
        node.start_init()
    for node in dead:
        node.start_containerd()
    for node in nodes:
        node.wait_containerd()
        if not node.is_connected:
            node.fabric.set_link(node.name, "up")


def cni_binaries() -> Path:
    """Return where the CNI plugins are."""
    directory = cni_directory()
    if directory is None:
        raise ClusterError("no CNI plugins: install the package containernetworking-plugins")
    return directory
