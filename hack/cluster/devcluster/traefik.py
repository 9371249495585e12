"""Traefik, a controller of the Gateway API, for clusters that ask for one."""

from pathlib import Path

from devcluster import configs, gateway_api, images
from devcluster.binaries import Component
from devcluster.cluster import Cluster

COMPONENT = Component("traefik", ("traefik",), cold_seconds=330, static=True)
"""None of those that every cluster is built of: it takes as long as Kubernetes does."""

IMAGE = "onceserve.dev/cluster/traefik:1"
NAMESPACE = "gateways"
GATEWAY = "public"
_READY_SECONDS = 60


def archive() -> Path:
    """Return its image, built on first use."""
    return images.own_archive(COMPONENT, IMAGE)


def install(cluster: Cluster) -> None:
    """Install the Gateway API, Traefik and a Gateway; return when that is programmed."""
    cluster.load_images([archive()])
    cluster.define(gateway_api.definitions())
    cluster.kubectl("apply", "--filename=-", stdin=configs.manifest("traefik", IMAGE=IMAGE))
    for kind, name, condition in (("deployment", "traefik", "Available"), ("gateway", GATEWAY, "Programmed")):
        cluster.kubectl(
            *("wait", f"{kind}/{name}", f"--namespace={NAMESPACE}"),
            *(f"--for=condition={condition}", f"--timeout={_READY_SECONDS}s"),
        )


def url(cluster: Cluster) -> str:
    """Return where it answers, as nodes reach it."""
    path = "jsonpath={.spec.clusterIP}"
    address = cluster.kubectl("get", "service/traefik", f"--namespace={NAMESPACE}", f"--output={path}")
    return f"http://{address}"


def log(cluster: Cluster) -> str:
    """Return its last words: of calls those that failed."""
    return cluster.kubectl("logs", "deployment/traefik", f"--namespace={NAMESPACE}", "--tail=100")
