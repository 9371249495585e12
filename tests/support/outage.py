"""The control plane of a test cluster, lost and brought back."""

from devcluster.cluster import Cluster
from devcluster.errors import StartError
from devcluster.processes import Process, kill
from support.waiting import eventually

API_SERVER, ETCD = "kube-apiserver", "etcd"


def lose(cluster: Cluster, *components: str) -> None:
    """Kill components at once."""
    layout = cluster.layout
    kill([Process(name, layout.processes / name, layout.logs / f"{name}.log") for name in components])


def bring_back(cluster: Cluster, nodes: int = 0) -> None:
    """Start what of a cluster with so many nodes does not run."""

    def is_up() -> bool:
        try:
            cluster.up(nodes, control_plane_only=not nodes)
        except StartError:
            # Its port may be taken for a moment, by the very clients that look for it.
            return False
        return True

    eventually(is_up, "the control plane is back")
