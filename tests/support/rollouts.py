"""A ModelDeployment on a real API server, and what a test does to it and reads of it."""

from dataclasses import dataclass
from typing import Any, Self

from onceserve_contract import termination
from onceserve_contract.termination import Failure
from support.api_server import Api
from support.modeldeployments import collection, deployment
from support.pods import RIGHT
from support.waiting import eventually

Object = dict[str, Any]

_PATHS = {
    "deployments": "/apis/apps/v1",
    "controllerrevisions": "/apis/apps/v1",
    "services": "/api/v1",
    "serviceaccounts": "/api/v1",
    "pods": "/api/v1",
    "events": "/api/v1",
    "poddisruptionbudgets": "/apis/policy/v1",
    "horizontalpodautoscalers": "/apis/autoscaling/v2",
    "httproutes": "/apis/gateway.networking.k8s.io/v1",
}
OWNED = ("deployments", "controllerrevisions", "services", "serviceaccounts", "poddisruptionbudgets")


@dataclass(frozen=True, slots=True)
class Deployed:
    """One ModelDeployment in a namespace."""

    api: Api
    namespace: str
    name: str

    @classmethod
    def create(cls, api: Api, namespace: str, spec: Object, name: str = "risk") -> Self:
        """Create it and return at once."""
        answer = api.create(collection(namespace), deployment(spec, name))
        assert answer.accepted, answer.body
        return cls(api, namespace, name)

    @property
    def path(self) -> str:
        return f"{collection(self.namespace)}/{self.name}"

    def read(self) -> Object:
        """Return it as it is."""
        return self.api.get(self.path).body

    def change(self, spec: Object) -> None:
        """Change fields of the spec."""
        answer = self.api.merge(self.path, {"spec": spec})
        assert answer.accepted, answer.body

    def status(self) -> Object:
        status: Object = self.read().get("status", {})
        return status

    def condition(self, kind: str) -> tuple[str, str, str]:
        """Return (status, reason, message) of a condition, as the current generation has it."""
        resource = self.read()
        generation = resource["metadata"]["generation"]
        for each in resource.get("status", {}).get("conditions", []):
            if each["type"] == kind and each.get("observedGeneration") == generation:
                return each["status"], each["reason"], each["message"]
        return "Missing", "", ""

    def await_condition(self, kind: str, status: str, reason: str | None = None) -> str:
        """Wait for a condition of the current generation; return its message."""

        def holds() -> bool:
            found = self.condition(kind)
            return found[0] == status and reason in {None, found[1]}

        try:
            eventually(holds, f"{kind}={status} {reason or ''}")
        except AssertionError as error:
            raise AssertionError(f"{error}; status: {self.status()}") from None
        return self.condition(kind)[2]

    def await_target(self, other_than: str | None = None) -> str:
        """Wait for the operator to name the wanted revision, another one than before."""

        def target() -> str:
            found: str = self.status().get("targetRevision", "")
            return found if found != other_than else ""

        return eventually(target, "a target revision")

    def children(self, plural: str) -> list[Object]:
        """Return its children of a kind."""
        selector = f"labelSelector=onceserve.dev%2Fmodeldeployment%3D{self.name}"
        items: list[Object] = self.api.get(f"{self._collection(plural)}?{selector}").body["items"]
        return items

    def child(self, plural: str, name: str) -> Object | None:
        """Return a child by name."""
        answer = self.api.get(f"{self._collection(plural)}/{name}")
        return answer.body if answer.accepted else None

    def change_child(self, plural: str, name: str, change: Object) -> None:
        """Change a child behind the operator's back."""
        answer = self.api.merge(f"{self._collection(plural)}/{name}", change)
        assert answer.accepted, answer.body

    def delete_child(self, plural: str, name: str) -> None:
        """Delete a child behind the operator's back."""
        assert self.api.delete(f"{self._collection(plural)}/{name}").accepted

    def routed_revision(self) -> str | None:
        """Return the one revision that the Service sends traffic to; None while it is none or several."""
        service = self.child("services", self.name)
        return service["spec"]["selector"].get("onceserve.dev/revision") or None if service else None

    def follow(self, revision: str, address: str = RIGHT) -> None:
        """Report that all pods answer that a revision has now."""
        self.report_ready([pod for pod in self._pods_of(revision) if "podIP" not in pod["status"]], address)

    def complete(self, revision: str, address: str = RIGHT) -> None:
        """Report pods of a revision as they come, until it has all traffic and is Ready."""

        def done() -> bool:
            self.follow(revision, address)
            return self.routed_revision() == revision and self.status()["rollout"]["phase"] == "Stable"

        eventually(done, f"{revision} has all traffic")
        self.await_condition("Ready", "True")

    def await_pods(self, revision: str, number: int) -> list[Object]:
        """Wait until a revision has this many pods; return them."""

        def found() -> list[Object]:
            pods = self._pods_of(revision)
            return pods if len(pods) == number else []

        return eventually(found, f"{number} pods of {revision}")

    def _pods_of(self, revision: str) -> list[Object]:
        pods = self.children("pods")
        return [pod for pod in pods if pod["metadata"]["labels"]["onceserve.dev/revision"] == revision]

    def report_ready(self, pods: list[Object], address: str = RIGHT) -> None:
        """Report, as a kubelet would, that pods answer, at this address."""
        for pod in pods:
            running = {"state": {"running": {}}, "ready": True}
            self._report(pod, "True", running, {"podIP": address, "podIPs": [{"ip": address}]})

    def report_failure(self, pods: list[Object], failure: Failure) -> None:
        """Report, as a kubelet would, that the servers ended with this termination message."""
        ended = {"terminated": {"exitCode": 3, "reason": "Error", "message": termination.encode(failure)}}
        back_off = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
        for pod in pods:
            self._report(pod, "False", {"state": back_off, "lastState": ended, "ready": False})

    def _report(self, pod: Object, ready: str, container: Object, network: Object | None = None) -> None:
        image = pod["spec"]["containers"][0]["image"]
        full = {"name": "server", "image": image, "imageID": "", "restartCount": 0, "started": True, **container}
        conditions = [{"type": kind, "status": ready} for kind in ("Ready", "ContainersReady")]
        scheduled = {"type": "PodScheduled", "status": "True"}
        status = {"phase": "Running", "conditions": [scheduled, *conditions], "containerStatuses": [full]}
        status |= network or {}
        path = f"{self._collection('pods')}/{pod['metadata']['name']}/status"
        answer = self.api.merge(path, {"status": status})
        assert answer.accepted, answer.body

    def events(self) -> list[tuple[str, str]]:
        """Return (type, reason) of the Events about it, oldest first."""
        items = self.api.get(self._collection("events")).body["items"]
        ours = [item for item in items if item["involvedObject"]["name"] == self.name]
        ours = [item for item in ours if item["involvedObject"]["kind"] == "ModelDeployment"]
        ours.sort(key=lambda item: int(item["metadata"]["resourceVersion"]))
        return [(item["type"], item["reason"]) for item in ours]

    def _collection(self, plural: str) -> str:
        return f"{_PATHS[plural]}/namespaces/{self.namespace}/{plural}"
