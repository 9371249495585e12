"""The store that the chart installs, on a node of a cluster whose volumes are made by hand."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from devcluster.cluster import Cluster
from support.helm import CHART, Helm
from support.killing import kill
from support.waiting import eventually

CLASS = "by-hand"
NAME = "onceserve-store"
SUM_OF_ATTEMPTS = """\
local keys, attempts, running = redis.call('KEYS', 'onceserve:*'), 0, 0
for _, key in ipairs(keys) do
  attempts = attempts + redis.call('HGET', key, 'attempt')
  if redis.call('HGET', key, 'state') ~= 'COMPLETED' then running = running + 1 end
end
return {#keys, attempts, running}"""


class ChartStore:
    """The one pod of the store."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl in its namespace."""
        return self._cluster.kubectl("--namespace", self._namespace, *arguments)

    @property
    def url(self) -> str:
        """Where it is, with its password, as people read it."""
        template = "{{.data.url | base64decode}}"
        return self.kubectl("get", "secret", NAME, "-o", f"go-template={template}")

    def records(self) -> tuple[int, int, int]:
        """Return how many keys it holds, how many attempts these took, and how many of them have no answer."""
        keys, attempts, running = map(int, self.redis("--raw", "eval", SUM_OF_ATTEMPTS, "0").split())
        return keys, attempts, running

    def redis(self, *arguments: str) -> str:
        """Run redis-cli in its pod."""
        return self.kubectl("exec", f"{NAME}-0", "--", "redis-cli", *arguments)

    def kill(self) -> None:
        """Kill its process; return when it answers again."""
        restarts = self._restarts()
        assert kill(self._pod()) == 1
        eventually(lambda: self._restarts() > restarts, "the store's container starts again")
        self.wait()

    def replace(self) -> None:
        """Delete its pod; return when another answers."""
        self.kubectl("delete", "pod", f"{NAME}-0", "--wait")
        eventually(lambda: self.kubectl("get", "pod", f"{NAME}-0", "--ignore-not-found"), "another pod")
        self.wait()

    def wait(self) -> None:
        """Wait until it answers."""
        self.kubectl("rollout", "status", f"statefulset/{NAME}", "--timeout=3m")
        self.kubectl("wait", f"pod/{NAME}-0", "--for=condition=Ready", "--timeout=3m")

    def _restarts(self) -> int:
        [status] = self._pod()["status"]["containerStatuses"]
        return int(status["restartCount"])

    def _pod(self) -> dict[str, Any]:
        pod: dict[str, Any] = json.loads(self.kubectl("get", "pod", f"{NAME}-0", "-o", "json"))
        return pod


@contextmanager
def enabled(cluster: Cluster, namespace: str, node: str, directory: Path, home: Path) -> Iterator[ChartStore]:
    """Have the release run its store on a node, with its data in a directory, for the duration of a block."""
    helm = Helm(cluster.binary("helm"), home, {"KUBECONFIG": str(cluster.kubeconfig), "HELM_NAMESPACE": namespace})
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(_volume(node, directory)))
    store = ChartStore(cluster, namespace)
    try:
        values = {"store": {"enabled": True, "storage": {"className": CLASS}}}
        helm("upgrade", "onceserve", CHART, "--reset-then-reuse-values", "--wait", "--timeout=3m", values=values)
        yield store
    finally:
        helm("upgrade", "onceserve", CHART, "--reset-then-reuse-values", "--wait", values={"store": {"enabled": False}})
        store.kubectl("delete", "pvc", f"data-{NAME}-0", "--ignore-not-found")
        store.kubectl("delete", "secret", NAME, "--ignore-not-found")
        cluster.kubectl("delete", "pv", NAME)


def _volume(node: str, directory: Path) -> dict[str, Any]:
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": NAME},
        "spec": {
            "capacity": {"storage": "4Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": CLASS,
            "local": {"path": str(directory)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
        },
    }
