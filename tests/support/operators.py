"""The operator's pods in a real cluster, and which of them leads."""

import json
from dataclasses import dataclass
from typing import Any

from devcluster.cluster import Cluster
from support.waiting import eventually

Pod = dict[str, Any]
LEASE = "lease/onceserve-operator"


@dataclass(frozen=True, slots=True)
class Operators:
    """The operators of one release."""

    cluster: Cluster
    namespace: str

    def pods(self) -> list[Pod]:
        """Return those that are not on their way out."""
        found = self._get("pods", "-l", "app.kubernetes.io/component=operator")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def holder(self) -> str:
        """Return who holds the lease; "" for nobody."""
        return str(self._get(LEASE)["spec"]["holderIdentity"])

    def leader(self) -> Pod:
        """Return the pod that leads, as soon as one does."""
        return eventually(self._leading, "one of the operators leads")[0]

    def _leading(self) -> list[Pod]:
        # Identities are a pod's name and something of each start of it.
        name = self.holder().rpartition("_")[0]
        return [pod for pod in self.pods() if pod["metadata"]["name"] == name]

    def _get(self, what: str, *arguments: str) -> Any:
        return json.loads(self.cluster.kubectl("get", "-n", self.namespace, what, *arguments, "-o", "json"))
