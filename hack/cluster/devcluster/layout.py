import os
from dataclasses import dataclass
from pathlib import Path


def default_state_dir(name: str) -> Path:
    """Return where the cluster with this name keeps its state."""
    if os.geteuid() == 0:
        return Path("/var/lib/onceserve/clusters") / name
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "onceserve" / "clusters" / name


@dataclass(frozen=True)
class Layout:
    """The files of one cluster."""

    root: Path

    @property
    def lock(self) -> Path:
        """Held by whoever changes the cluster."""
        return self.root / "lock"

    @property
    def spec(self) -> Path:
        """What the cluster was asked to be."""
        return self.root / "cluster.json"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.root / "kubeconfig"

    @property
    def logs(self) -> Path:
        """One log file for each component."""
        return self.root / "logs"

    @property
    def audit_log(self) -> Path:
        """One JSON line for each request to the API server."""
        return self.logs / "audit.log"

    @property
    def processes(self) -> Path:
        """One record for each process."""
        return self.root / "processes"

    @property
    def pki(self) -> Path:
        """Keys and certificates."""
        return self.root / "pki"

    @property
    def etcd(self) -> Path:
        """The data of etcd."""
        return self.root / "etcd"

    @property
    def config(self) -> Path:
        """Configuration files of the control plane."""
        return self.root / "config"

    @property
    def images(self) -> Path:
        """Archives that every node gets, those started later too."""
        return self.root / "images"

    def node(self, name: str) -> Path:
        """Return what one node keeps; it is mounted inside the node."""
        return self.root / "nodes" / name
