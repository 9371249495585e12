"""What measures nodes and pods, for `kubectl top` and HorizontalPodAutoscalers; a cluster has it only if asked for."""

import base64
import json

from devcluster import binaries, configs, images
from devcluster.api import is_ready
from devcluster.cluster import Cluster
from devcluster.control_plane import CA
from devcluster.errors import ClusterError
from devcluster.pki import Store
from devcluster.wait import wait_until

IMAGE = "onceserve.dev/cluster/metrics-server:1"
HOST = "metrics-server.kube-system.svc"
MEASURED_NODES = "/apis/metrics.k8s.io/v1beta1/nodes"
READY_SECONDS = 120


def install(cluster: Cluster) -> None:
    """Have a cluster measure its nodes and pods, and return when it does; raises ClusterError where it does not."""
    if not cluster.exists or not _ready_nodes(cluster):
        raise ClusterError(f"there is no cluster {cluster.name} with a node that is Ready")
    cluster.load_images([images.own_archive(binaries.METRICS_SERVER, IMAGE)])
    cluster.kubectl("apply", "--server-side", "--filename=-", stdin=manifest(Store(cluster.layout.pki)))
    if not wait_until(lambda: _measures(cluster), READY_SECONDS, poll=1):
        log = cluster.kubectl("logs", "--namespace=kube-system", "--selector=k8s-app=metrics-server")
        raise ClusterError(f"metrics-server did not measure every node within {READY_SECONDS} s; its log:\n{log}")


def remove(cluster: Cluster) -> None:
    """Have a cluster measure nothing any more."""
    manifests = manifest(Store(cluster.layout.pki))
    cluster.kubectl("delete", "--ignore-not-found", "--wait=false", "--filename=-", stdin=manifests)


def manifest(store: Store) -> str:
    """Return the manifest, with a certificate by which the API server knows it."""
    store.pair("metrics-server", CA, HOST, hosts=[HOST])
    files = {
        "AUTHORITY": store.certificate(CA),
        "CERTIFICATE": store.certificate("metrics-server"),
        "KEY": store.key("metrics-server"),
    }
    encoded = {name: base64.b64encode(file.read_bytes()).decode() for name, file in files.items()}
    return configs.manifest("metrics-server", IMAGE=IMAGE, **encoded)


def _measures(cluster: Cluster) -> bool:
    """Say whether it tells of every node that is Ready: it does once it has asked their kubelets twice."""
    try:
        measured = json.loads(cluster.kubectl("get", "--raw", MEASURED_NODES))["items"]
    except ClusterError:
        return False
    return _ready_nodes(cluster) <= {node["metadata"]["name"] for node in measured}


def _ready_nodes(cluster: Cluster) -> set[str]:
    nodes = json.loads(cluster.kubectl("get", "nodes", "--output=json"))["items"]
    return {node["metadata"]["name"] for node in nodes if is_ready(node)}
