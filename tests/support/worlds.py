"""Objects as an API server would hold them, for tests of the pure parts."""

from collections.abc import Container, Iterable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from onceserve_contract import termination
from onceserve_contract.termination import Failure
from onceserve_operator import conditions, plan, quantities, status
from onceserve_operator.domain import Event, Key, Manifest, Measured, Observed, Plan, Problem, Seen, Traffic, Verdict
from onceserve_operator.kube import kinds
from onceserve_operator.kube.cache import Cache
from onceserve_operator.kube.kinds import Kind
from onceserve_operator.kube.observe import observe
from onceserve_operator.plan import Defaults
from onceserve_operator.resources import labels, names
from onceserve_operator.rollout.commands import ANNOTATION

IMAGE = "onceserve/server:1.0.0"
DIGEST = "0" * 64
SECRET = b"a secret that every golden file shares"
START = datetime(2026, 1, 1, tzinfo=UTC)


class World:
    """One ModelDeployment in a cluster that does what it is told, when it is told.

    Nothing happens by itself: a test says which pods exist, and what the kubelet reports of them.
    """

    def __init__(self, resource: Manifest, image: str = IMAGE) -> None:
        self._versions = count(1)
        self._pods: list[Manifest] = []
        self.now = START
        self.image = image
        self.verdicts: dict[str, Verdict] = {}
        self.silent: set[str] = set()
        self.measured: Measured | None = None
        self.cache = Cache()
        defaults: Manifest = {
            "metadata": {
                "namespace": "default",
                "uid": "uid-of-resource",
                "generation": 1,
                "creationTimestamp": quantities.timestamp(START),
            }
        }
        self.resource = resource | {"metadata": defaults["metadata"] | resource["metadata"]}
        self.key = Key(self.resource["metadata"]["namespace"], self.resource["metadata"]["name"])
        self.events: list[Event] = []
        self._store(self.resource)

    @classmethod
    def of_file(cls, path: Path, image: str = IMAGE) -> "World":
        """Return a world with the ModelDeployment of an example."""
        return cls(yaml.safe_load(path.read_text()), image)

    def observed(self) -> Observed:
        """Return what the operator sees now."""
        observed = observe(self.cache, self.key, self.seen())
        assert observed is not None
        return observed

    def seen(self) -> Seen:
        """Return what pods told: all that are ready are right, but for those whose verdict a test has given."""
        ready = {pod["metadata"]["uid"]: pod for pod in self._pods if _is_ready(pod)}
        revisions = {uid: pod["metadata"]["labels"][labels.REVISION] for uid, pod in ready.items()}
        answering = {uid: revision for uid, revision in revisions.items() if revision not in self.silent}
        verdicts = {uid: self.verdicts.get(revision, Verdict(DIGEST)) for uid, revision in answering.items()}
        return Seen(verdicts, dict.fromkeys(ready.keys() - answering, "it does not answer"), self.measured)

    def planned(self) -> Plan:
        """Return what the operator would do now."""
        observed = self.observed()
        return plan.make(observed, plan.read(observed)[0], Defaults(self.image, SECRET), self.now)

    def settle(self) -> Plan:
        """Make passes until one changes nothing, as the events of each would lead to."""
        while True:
            before = self.resource.get("status"), self.planned().children
            planned = self.reconcile()
            if before == (self.resource["status"], self.planned().children):
                return planned

    def reconcile(self, refusals: tuple[Problem, ...] = (), refused_kinds: Container[str] = ()) -> Plan:
        """Make one pass, and have the world take all of it but the kinds that are refused."""
        observed, planned = self.observed(), self.planned()
        spec, unknown = plan.read(observed)
        findings = conditions.judge(observed, spec, planned.step, refusals, unknown)
        self.events += [*planned.step.events, *conditions.events(findings, status.previous_conditions(observed))]
        self._take(planned.children, refused_kinds)
        self._report(status.of_step(observed, planned.step, findings, self.now))
        return planned

    def refuse(self, words: str) -> None:
        """Make one pass over a spec that cannot be read."""
        observed = self.observed()
        findings = conditions.reject(observed, words)
        self.events += conditions.events(findings, status.previous_conditions(observed))
        self._report(status.of_rejection(observed, findings, self.now))

    def change(self, **spec: Any) -> None:
        """Have a person change fields of the spec."""
        metadata = self.resource["metadata"]
        metadata = {**metadata, "generation": metadata["generation"] + 1}
        self.resource = {**self.resource, "metadata": metadata, "spec": {**self.resource["spec"], **spec}}
        self._store(self.resource)

    def command(self, value: str) -> None:
        """Have a person set the annotation by which rollouts are commanded."""
        metadata = {**self.resource["metadata"], "annotations": {ANNOTATION: value}}
        self.resource = {**self.resource, "metadata": metadata}
        self._store(self.resource)

    def recreate(self) -> None:
        """Have a person delete the resource and apply it again, before its pods are collected."""
        metadata = {**self.resource["metadata"], "uid": "another", "creationTimestamp": quantities.timestamp(self.now)}
        self.cache.drop(self.resource)
        self.resource = {**self.resource, "metadata": metadata, "status": {}}
        self._store(self.resource)

    def exceed_deadline(self, revision: str) -> None:
        """Have the Deployment controller find that a revision has not become ready in time."""
        deployment = self.cache.get(kinds.DEPLOYMENT, self.key.namespace, revision)
        assert deployment is not None
        late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}
        self._store({**deployment, "status": {"conditions": [late]}})

    def pass_time(self, **span: float) -> None:
        """Let time pass, in the units of timedelta."""
        self.now += timedelta(**span)

    def pods(
        self, revision: str, *, ready: int = 0, starting: int = 0, failed: Iterable[Failure] = (), mounting: str = ""
    ) -> None:
        """Replace the pods of a revision; one of them may be `mounting` a Secret."""
        for pod in [pod for pod in self._pods if pod["metadata"]["labels"][labels.REVISION] == revision]:
            self._pods.remove(pod)
            self.cache.drop(pod)
        states = [(True, None)] * ready + [(False, None)] * starting + [(False, failure) for failure in failed]
        for number, (is_ready, failure) in enumerate(states):
            container: Manifest = {"name": "server", "image": self.image, "state": {"running": {}}, "lastState": {}}
            if failure:
                container["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
                container["lastState"] = {"terminated": {"exitCode": 3, "message": termination.encode(failure)}}
            self.add_pod(f"{revision}-{number}", revision, is_ready, container)
        if mounting:
            creating = {"name": "server", "state": {"waiting": {"reason": "ContainerCreating"}}}
            self.add_pod(f"{revision}-mounting", revision, is_ready=False, container=creating, secret=mounting)

    def dismiss(self, revision: str, seconds: float) -> None:
        """Have the pods of a revision be deleted: they have so long to leave."""
        gone = (self.now + timedelta(seconds=seconds)).isoformat()
        for pod in [pod for pod in self._pods if pod["metadata"]["labels"][labels.REVISION] == revision]:
            self._pods.remove(pod)
            leaving = {**pod, "metadata": {**pod["metadata"], "deletionTimestamp": gone}}
            self._pods.append(leaving)
            self._store(leaving)

    def follow(self) -> None:
        """Have each Deployment get the pods that it asks for: new ones are ready, those that are not go first."""
        for revision, wanted in self.replicas().items():
            ours = [pod for pod in self._pods if pod["metadata"]["labels"][labels.REVISION] == revision]
            for pod in sorted(ours, key=_is_ready, reverse=True)[wanted:]:
                self._pods.remove(pod)
                self.cache.drop(pod)
            for _ in range(wanted - len(ours)):
                running = {"name": "server", "image": self.image, "state": {"running": {}}, "lastState": {}}
                self.add_pod(f"{revision}-{next(self._versions)}", revision, is_ready=True, container=running)

    def roll_out(self) -> Plan:
        """Make passes, and have the cluster follow each, until neither changes anything."""
        while True:
            before = self.settle(), len(self._pods)
            self.follow()
            if len(self._pods) == before[1] and self.settle() == before[0]:
                return before[0]

    def add_pod(self, name: str, revision: str, is_ready: bool, container: Manifest, secret: str = "") -> None:
        """Add one pod as the kubelet would report it; with a Secret that it cannot mount yet."""
        volumes = [{"name": "secret", "secret": {"secretName": secret}}] if secret else []
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "namespace": self.key.namespace,
                "name": name,
                "uid": f"uid-{next(self._versions)}",
                "creationTimestamp": quantities.timestamp(self.now),
                "labels": labels.of_revision(self.key, revision),
            },
            "spec": {"volumes": volumes},
            "status": {
                "phase": "Running",
                "conditions": [
                    {"type": "PodReadyToStartContainers", "status": str(not secret)},
                    {"type": "Ready", "status": str(is_ready)},
                ],
                "containerStatuses": [container],
            },
        }
        self._pods.append(pod)
        self._store(pod)

    def condition(self, kind: str) -> Manifest:
        """Return a condition as the status has it."""
        found: Manifest = next(each for each in self.resource["status"]["conditions"] if each["type"] == kind)
        return found

    def traffic(self) -> Traffic:
        """Return whom the Service sends requests to."""
        service = self.cache.get(kinds.SERVICE, self.key.namespace, names.service(self.key))
        assert service is not None
        return labels.traffic_of(service["spec"]["selector"])

    def replicas(self) -> dict[str, int]:
        """Return the wanted pods of each Deployment that exists."""
        deployments = self.cache.owned(kinds.DEPLOYMENT, self.key)
        return {each["metadata"]["name"]: each["spec"]["replicas"] for each in deployments}

    def lose(self, kind: Kind, name: str) -> None:
        """Have somebody delete a child."""
        child = self.cache.get(kind, self.key.namespace, name)
        assert child is not None
        self.cache.drop(child)

    def _take(self, children: Iterable[Manifest], refused_kinds: Container[str]) -> None:
        wanted = {(child["kind"], child["metadata"]["name"]) for child in children}
        for kind in kinds.OWNED:
            for known in self.cache.owned(kind, self.key):
                if (known["kind"], known["metadata"]["name"]) not in wanted:
                    self.cache.drop(known)
        for child in children:
            if child["kind"] in refused_kinds:
                continue
            metadata = child["metadata"]
            live = self.cache.get(kinds.of(child), metadata["namespace"], metadata["name"])
            created = live["metadata"]["creationTimestamp"] if live else quantities.timestamp(self.now)
            uid = live["metadata"]["uid"] if live else f"uid-{next(self._versions)}"
            told = {"status": live["status"]} if live and "status" in live else {}
            self._store({**child, **told, "metadata": {**metadata, "uid": uid, "creationTimestamp": created}})

    def _report(self, wanted: Manifest) -> None:
        self.resource = {**self.resource, "status": wanted}
        self._store(self.resource)

    def _store(self, manifest: Manifest) -> None:
        version = str(next(self._versions))
        self.cache.put({**manifest, "metadata": {**manifest["metadata"], "resourceVersion": version}})


def _is_ready(pod: Manifest) -> bool:
    return {"type": "Ready", "status": "True"} in pod["status"]["conditions"]
