"""The configuration files of the components, as plain data."""

import string
from pathlib import Path
from typing import Any

import yaml

from devcluster import addresses
from devcluster.files import write_atomically

CONTAINERD_SOCKET = Path("/run/containerd/containerd.sock")
PAUSE_IMAGE = "onceserve.dev/cluster/pause:1"
COREDNS_IMAGE = "onceserve.dev/cluster/coredns:1"
PROBE_IMAGE = "onceserve.dev/cluster/probe:1"
MANIFESTS = Path(__file__).resolve().parent.parent / "manifests"

AUDIT_POLICY: dict[str, Any] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    # One line for each request.
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


def write_yaml(path: Path, content: object, mode: int = 0o644) -> Path:
    """Write a configuration file."""
    write_atomically(path, yaml.safe_dump(content, sort_keys=False), mode)
    return path


def kubeconfig(name: str, server: str, authority: str, certificate: str, key: str) -> dict[str, Any]:
    """Return a kubeconfig that carries its certificates (base64) within."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": authority}}],
        "users": [{"name": name, "user": {"client-certificate-data": certificate, "client-key-data": key}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }


def kubelet(directory: str, cgroup_root: str) -> dict[str, Any]:
    """Return a kubelet's configuration; `directory` has its certificates, as seen inside the node."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{directory}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{directory}/kubelet.crt",
        "tlsPrivateKeyFile": f"{directory}/kubelet.key",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup_root,
        # Version 1 still serves many machines.
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [str(addresses.DNS_SERVICE)],
        "clusterDomain": addresses.CLUSTER_DOMAIN,
        # The host's resolver is not reachable from here.
        "resolvConf": "",
        "healthzPort": 0,
        # Containers may lack the capability to lower it.
        "oomScoreAdj": 0,
        # The disk is the host's: its other contents evict no pod and no image.
        "evictionHard": dict.fromkeys(("memory.available", "nodefs.available", "imagefs.available"), "0%"),
        "imageGCHighThresholdPercent": 100,
        # Images are brought, not pulled; an attempt to pull one must not make the kubelet distrust it.
        "imagePullCredentialsVerificationPolicy": "NeverVerify",
        # Heartbeats well within the controller's grace period of 10 s.
        "nodeStatusUpdateFrequency": "2s",
        "nodeStatusReportFrequency": "10s",
        "nodeLeaseDurationSeconds": 8,
        "kubeAPIQPS": 1000,
        "kubeAPIBurst": 1000,
    }


def kube_proxy(kubeconfig_path: str) -> dict[str, Any]:
    """Return kube-proxy's configuration."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": kubeconfig_path},
        "clusterCIDR": str(addresses.POD_NETWORK),
        # A namespace may not set these sysctls.
        "conntrack": {"maxPerCore": 0, "min": 0},
        "iptables": {"minSyncPeriod": "0s", "syncPeriod": "30s"},
    }


def containerd(cni_binaries: Path, cni_config: str) -> str:
    """Return containerd's configuration; its root and state are the usual ones, which each node has for itself."""
    return f"""\
version = 3
oom_score = 0
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.cri.v1.runtime"]
  # Without CAP_SYS_RESOURCE runc may not lower a score.
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{cni_binaries}"]
    conf_dir = "{cni_config}"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{PAUSE_IMAGE}"
"""


def cni(number: int) -> dict[str, Any]:
    """Return a node's pod network: point to point, so that pods of one node meet Services without bridge netfilter."""
    ranges = [[{"subnet": str(addresses.pod_subnet(number))}]]
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "ipam": {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]},
            },
            {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
        ],
    }


def manifest(name: str, **values: str) -> str:
    """Return one of the cluster's own manifests; `values` are what its placeholders, such as $IMAGE, stand for."""
    return string.Template((MANIFESTS / f"{name}.yaml").read_text()).substitute(values)


def dns_manifests() -> list[dict[str, Any]]:
    """Return the manifests of the cluster's DNS."""
    text = manifest(
        "coredns",
        IMAGE=COREDNS_IMAGE,
        DNS_SERVICE=str(addresses.DNS_SERVICE),
        CLUSTER_DOMAIN=addresses.CLUSTER_DOMAIN,
    )
    return list(yaml.safe_load_all(text))
