"""The fabric: a network namespace that is switch and router of one cluster, with its control plane inside."""

import socket
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from devcluster import addresses
from devcluster.errors import ClusterError
from devcluster.forwarder import enter_network
from devcluster.processes import Process

BRIDGE = "fabric"
# It becomes `pause` only when all is set up, so that the name tells whether it is ready.
# Without an address of its own the bridge has that of one of its ports: when that port goes with its node, the other
# nodes lose the control plane until their neighbour tables notice.
FABRIC_INIT = f"""
set -e
ip -batch - <<END
link set lo up
link add {BRIDGE} address {addresses.hardware_address(addresses.CONTROL_PLANE)} type bridge
addr add {addresses.CONTROL_PLANE}/{addresses.FABRIC_NETWORK.prefixlen} dev {BRIDGE}
link set {BRIDGE} up
END
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 0 > /proc/sys/net/ipv4/conf/all/send_redirects
exec "$0"
"""


def is_paused(process: Process) -> bool:
    """Say whether the holder of a namespace finished its preparations."""
    try:
        return Path(f"/proc/{process.pid}/comm").read_text() == "pause\n"
    except OSError:
        return False


def can_connect(namespace: Path, host: str, port: int) -> bool:
    """Say whether a network namespace reaches an address."""

    def connect() -> bool:
        try:
            enter_network(namespace)
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            return False
        return True

    # A thread of its own: it enters the namespace alone and takes that to its grave.
    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(connect).result()


@dataclass(frozen=True)
class Fabric:
    """The network of one cluster, alive as long as the process that holds it."""

    holder: Process
    pause: Path

    @property
    def namespace(self) -> Path:
        """The file that stands for the network namespace."""
        return Path(f"/proc/{self.holder.pid}/ns/net")

    @property
    def is_ready(self) -> bool:
        """Say whether the switch is there."""
        return is_paused(self.holder)

    def start(self) -> None:
        """Make the namespace and the switch in it."""
        self.holder.start(["unshare", "--net", "sh", "-c", FABRIC_INIT, self.pause])
        self.holder.wait_ready(lambda: self.is_ready, timeout=10)

    def enter(self, command: Sequence[str | Path]) -> list[str | Path]:
        """Return the command that runs another one inside."""
        return ["nsenter", f"--net={self.namespace}", "--", *command]

    def set_link(self, node: str, state: str) -> None:
        """Set the switch's port of a node `up` or `down`."""
        self._ip("link", "set", node, state)

    def link_is_up(self, node: str) -> bool:
        """Say whether a node is plugged in."""
        result = self._try_ip("link", "show", "dev", node, "up")
        return result.returncode == 0 and bool(result.stdout)

    def remove_link(self, node: str) -> None:
        """Remove the port of a node where there is one."""
        self._try_ip("link", "delete", node)

    def _ip(self, *arguments: str) -> None:
        result = self._try_ip(*arguments)
        if result.returncode != 0:
            raise ClusterError(f"ip {' '.join(arguments)} in the fabric failed: {result.stderr}")

    def _try_ip(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(self.enter(["ip", *arguments]), capture_output=True, text=True, check=False)
