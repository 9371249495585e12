"""Where the demo runs: a cluster made here, or one that a person has."""

import shutil
import subprocess
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import images
from demo.steps import step
from demo.tools import Tools, apply, kubectl
from devcluster.cluster import Cluster
from devcluster.errors import ClusterError

NODES = 3
VOLUME, VOLUME_NODE = "onceserve-store", "node-1"
BUILD = r"operator.podAnnotations.onceserve\.dev/build"
"""The chart's value that tells one build from another."""


class Target(Protocol):
    """A cluster to show the demo on."""

    def start(self) -> None:
        """Have the cluster run."""

    def provide_images(self) -> dict[str, str]:
        """Have the images where nodes find them; return the chart's values for them, as `helm --set` takes them."""

    def provide_volume(self) -> dict[str, str]:
        """Have a volume for the store; return the chart's values for it, none where there can be no volume."""

    def tools(self) -> Tools:
        """Return the programs for it."""

    def remove(self) -> bool:
        """Remove the cluster; False where it is not ours to remove."""


def volume(path: str) -> dict[str, Any]:
    """Return a volume out of a directory of a node."""
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [VOLUME_NODE]}]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": VOLUME},
        "spec": {
            "capacity": {"storage": "4Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": VOLUME,
            "local": {"path": path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
        },
    }


def built_from(archives: list[Path]) -> dict[str, str]:
    """Return a value that changes with the images, whose tag does not: pods of an older build are replaced."""
    return {BUILD: "_".join(archive.stem for archive in archives)}


class Own:
    """A cluster of real nodes on this machine."""

    def __init__(self, name: str) -> None:
        self._cluster = Cluster(name)

    def start(self) -> None:
        """Bring up the cluster, or find it up."""
        with step(f"Kubernetes with {NODES} nodes (the first time its programs are compiled, some 10 minutes)"):
            self._cluster.up(NODES)

    def provide_images(self) -> dict[str, str]:
        """Build the images and import them into every node."""
        with step("images of operator, server and store (the first time some 2 minutes)"):
            archives = images.build()
        with step("images into the nodes"):
            self._cluster.load_images(archives)
        return built_from(archives)

    def provide_volume(self) -> dict[str, str]:
        """Have a volume out of a directory of a node's."""
        # What is the node's /var/lib.
        (self._cluster.layout.node(VOLUME_NODE) / "files" / "lib" / VOLUME).mkdir(exist_ok=True)
        apply(self.tools(), volume(f"/var/lib/{VOLUME}"))
        return {"store.enabled": "true", "store.storage.className": VOLUME}

    def tools(self) -> Tools:
        """Return kubectl and helm of the cluster's own release."""
        kubectl, helm = self._cluster.binary("kubectl"), self._cluster.binary("helm")
        config = f"--kubeconfig={self._cluster.kubeconfig}"
        path = f"{kubectl.parent}:{helm.parent}:$PATH"
        environment = {"KUBECONFIG": str(self._cluster.kubeconfig), "PATH": path}
        return Tools([str(kubectl), config], [str(helm), config], environment)

    def remove(self) -> bool:
        """Remove it without a trace."""
        self._cluster.down()
        return True


class Existing:
    """A cluster that a person has, by its context; only what the demo installed in it is ever removed."""

    def __init__(self, context: str, registry: str | None) -> None:
        self._context = context
        self._registry = registry

    def start(self) -> None:
        """Make sure that the cluster answers."""
        with step(f"cluster of context {self._context}"):
            subprocess.run([*self.tools().kubectl, "version"], check=True, capture_output=True, text=True)

    def provide_images(self) -> dict[str, str]:
        """Load the images where the kind of cluster has a way; else take them from the registry that is given."""
        if self._registry:
            return {f"image.{name}.repository": f"{self._registry}/{name}" for name in images.TARGETS}
        commands = self._loading_commands()
        with step("images of operator, server and store"):
            archives = images.build()
        with step(f"images into {self._context}"):
            for archive in archives:
                subprocess.run([*commands, str(archive)], check=True, capture_output=True, text=True)
        return built_from(archives)

    def provide_volume(self) -> dict[str, str]:
        """Leave it to the default StorageClass."""
        path = "jsonpath={.items[*].metadata.annotations.storageclass\\.kubernetes\\.io/is-default-class}"
        classes = kubectl(self.tools(), "get", "storageclasses", "-o", path)
        return {"store.enabled": "true"} if "true" in classes else {}

    def _loading_commands(self) -> list[str]:
        if self._context.startswith("kind-"):
            return ["kind", "load", "image-archive", f"--name={self._context.removeprefix('kind-')}"]
        if self._context.startswith("minikube"):
            return ["minikube", f"--profile={self._context}", "image", "load"]
        raise ClusterError(
            f"nodes of {self._context} cannot be given images from here: push them to a registry that they reach and"
            f" say make demo CONTEXT={self._context} IMAGES=REGISTRY/PREFIX (for PREFIX/operator and so on)"
        )

    @cached_property
    def _programs(self) -> tuple[str, str]:
        found = {name: shutil.which(name) for name in ("kubectl", "helm")}
        missing = [name for name, path in found.items() if path is None]
        if missing:
            raise ClusterError(f"an existing cluster is used by {' and '.join(missing)}: not on the PATH")
        return str(found["kubectl"]), str(found["helm"])

    def tools(self) -> Tools:
        """Return the person's own programs."""
        kubectl, helm = self._programs
        return Tools([kubectl, f"--context={self._context}"], [helm, f"--kube-context={self._context}"], {})

    def remove(self) -> bool:
        """Leave the cluster alone."""
        return False
