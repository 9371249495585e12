"""A model served on real nodes, from apply to delete."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.cluster import Cluster
from devcluster.errors import ClusterError
from onceserve_serving.auth import keys
from support.certificates import Authority
from support.served import EXAMPLE, Served, answered, await_ready_pods, expected, request_body
from support.waiting import eventually

EXPLAINED_WITHIN = 15
"""Seconds from apply to the reason of a failure in the status: what we promise."""


@pytest.fixture
def ready(served: Served) -> Served:
    served.wait_complete()
    return served


def test_all_replicas_answer_right_from_different_nodes(ready: Served) -> None:
    assert {pod["spec"]["nodeName"] for pod in ready.pods()} == {"node-1", "node-2", "node-3"}
    with ready.load() as load:
        time.sleep(2)
    assert load.failures == []
    assert sorted(load.pods) == sorted(ready.ready_pods())
    [body] = map(answered, {body.partition('"outputs"')[2]: body for body in load.bodies}.values())
    assert body == expected(first_row())


def first_row() -> list[list[float]]:
    rows: list[list[float]] = json.loads((EXAMPLE / "test-set.json").read_text())["rows"]
    return rows[:1]


@pytest.mark.parametrize("connections", ["new", "keep-alive"])
def test_a_deleted_pod_drains_and_no_call_fails(ready: Served, connections: str) -> None:
    victim = ready.ready_pods()[0]
    with ready.load(connections=connections) as load:
        ready.kubectl("delete", "pod", victim, "--wait")
        ready_again = await_ready_pods(ready, 3)
    assert load.failures == []
    assert victim not in ready_again
    assert load.calls > 100


def test_a_killed_pod_comes_back_and_calls_go_on(ready: Served) -> None:
    """SIGKILL gives no time to drain: calls may fail until endpoints have learnt, and none after that."""
    victim = ready.ready_pods()[0]
    with ready.load() as load:
        ready.kubectl("delete", "pod", victim, "--grace-period=0", "--force")
        await_ready_pods(ready, 3)
        settled = time.time()
        time.sleep(3)
    assert [failure for failure in load.failures if failure["at"] > settled] == []
    assert load.calls > 100


def test_scaling_by_kubectl(ready: Served) -> None:
    with ready.load() as load:
        ready.kubectl("scale", f"mdep/{ready.name}", "--replicas=5")
        await_ready_pods(ready, 5)
        eventually(lambda: ready.status()["readyReplicas"] == 5, "the status has 5")
        ready.kubectl("scale", f"mdep/{ready.name}", "--replicas=2")
        await_ready_pods(ready, 2)
    assert load.failures == []
    assert len(ready.status()["revisions"]) == 1


def test_a_new_model_takes_over_without_a_failed_call(ready: Served) -> None:
    with ready.load() as load:
        ready.patch({"model": {"uri": "configmap://breast-cancer-v2/model.onnx", "sha256": None}})
        ready.wait_complete()
        eventually(lambda: len(ready.pods()) == 3, "the old pods are gone")
        # Each node's kube-proxy learns of it in its own time.
        time.sleep(2)
    assert load.failures == []
    assert len(load.bodies) == 2
    labels = [json.loads(body)["model_version"] for body in load.bodies]
    assert len(set(labels)) == 2


def test_the_operator_is_not_needed_for_serving(ready: Served, installed: Cluster) -> None:
    operator = ["-n", "onceserve-system", "deployment/onceserve-operator"]
    victim = ready.ready_pods()[0]
    try:
        installed.kubectl("scale", *operator, "--replicas=0")
        with ready.load() as load:
            ready.kubectl("delete", "pod", victim, "--wait")
            await_ready_pods(ready, 3)
    finally:
        installed.kubectl("scale", *operator, "--replicas=2")
        installed.kubectl("rollout", "status", *operator, "--timeout=3m")
    assert load.failures == []


def test_deletion_leaves_nothing(ready: Served) -> None:
    ready.kubectl("delete", "mdep", ready.name)
    kinds = (
        "deployments,replicasets,pods,services,endpointslices,serviceaccounts,poddisruptionbudgets,controllerrevisions"
    )

    def left() -> list[str]:
        items = ready.get(kinds, "-l", f"onceserve.dev/modeldeployment={ready.name}")["items"]
        return [f"{item['kind']} {item['metadata']['name']}" for item in items]

    eventually(lambda: not left(), "nothing is left")


class FileServer:
    """An HTTP server in the cluster that has the model, and answers 404 for all else."""

    def __init__(self, served: Served, image: str) -> None:
        self._served = served
        security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        container = {
            "name": "files",
            "image": image,
            "command": ["/opt/onceserve/bin/python", "-m", "http.server", "8000", "--directory", "/files"],
            "volumeMounts": [{"name": "files", "mountPath": "/files"}],
            "securityContext": security,
            "readinessProbe": {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1},
        }
        pod = {
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
            "volumes": [{"name": "files", "configMap": {"name": "breast-cancer"}}],
        }
        labels = {"app": "files"}
        manifests: list[dict[str, Any]] = [
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "files", "labels": labels}, "spec": pod},
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "files"},
                "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8000}]},
            },
        ]
        for manifest in manifests:
            served.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
        served.kubectl("wait", "pod/files", "--for=condition=Ready", "--timeout=3m")
        self.url = "http://files/model.onnx"
        self.missing = "http://files/missing.onnx"


@pytest.fixture
def files(ready: Served) -> FileServer:
    return FileServer(ready, ready.pods()[0]["spec"]["containers"][0]["image"])


def test_a_model_is_fetched_by_url_and_verified(ready: Served, files: FileServer, model_sha256: str) -> None:
    ready.apply("fetched", {"model": {"uri": files.url, "sha256": model_sha256}})
    ready.wait("Ready", name="fetched")


@pytest.fixture(scope="session")
def model_sha256() -> str:
    digest: str = example_spec()["model"]["sha256"]
    return digest


def example_spec() -> dict[str, Any]:
    spec: dict[str, Any] = yaml.safe_load((EXAMPLE / "modeldeployment.yaml").read_text())["spec"]
    return spec


@pytest.mark.parametrize("case", ["missing", "unreachable", "wrong digest", "not a model", "no configmap", "no image"])
def test_what_is_wrong_is_said_within_seconds_and_others_go_on(ready: Served, files: FileServer, case: str) -> None:
    specs: dict[str, tuple[dict[str, Any], str, str]] = {
        "missing": ({"model": {"uri": files.missing}}, "NotFound", "404"),
        "unreachable": ({"model": {"uri": "http://nowhere.invalid/m.onnx"}}, "Unreachable", "nowhere.invalid"),
        "wrong digest": ({"model": {"uri": files.url, "sha256": "0" * 64}}, "DigestMismatch", "0" * 64),
        "not a model": ({"model": {"uri": "http://files/"}}, "LoadFailed", "http://files/"),
        "no configmap": ({"model": {"uri": "configmap://nowhere/m.onnx"}}, "NotFound", "m.onnx"),
        "no image": (
            {"model": {"uri": files.url}, "server": {"image": "nowhere.invalid/server:1"}},
            "ImagePullFailed",
            "nowhere.invalid/server:1",
        ),
    }
    spec, reason, words = specs[case]
    with ready.load() as load:
        start = time.monotonic()
        ready.apply("bad", spec)
        eventually(lambda: ready.condition("Ready", "bad").get("reason") == reason, f"Ready says {reason}")
        took = time.monotonic() - start
        ready.apply("good", {"model": example_spec()["model"]})
        ready.wait("Ready", name="good")
    condition = ready.condition("Ready", "bad")
    assert (condition["status"], words in condition["message"]) == ("False", True), condition
    assert took < EXPLAINED_WITHIN
    assert load.failures == []


def test_an_invalid_spec_is_refused_in_words(ready: Served) -> None:
    with pytest.raises(Exception, match="must start with https://, http://, configmap:// or file:///"):
        ready.apply("invalid", {"model": {"uri": "s3://bucket/model.onnx"}})


def test_pods_survive_a_read_only_world(ready: Served) -> None:
    pod = ready.pods()[0]
    spec = pod["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert all(status["restartCount"] == 0 for status in pod["status"]["containerStatuses"])
    assert "rror" not in ready.kubectl("logs", pod["metadata"]["name"])


class Guarded:
    """A ModelDeployment that speaks TLS with holders of a key alone, and with one of them at a time."""

    name = "guarded"

    def __init__(self, served: Served) -> None:
        self._served = served
        self._authority = Authority()
        served.apply(
            self.name,
            {
                "model": {**example_spec()["model"], "name": "breast-cancer"},
                "server": {"tls": {"secretName": "certificate"}},
                "auth": {"apiKeys": {"secretName": "keys"}},
                "batching": {"maxDelay": "500ms"},
                "admission": {"maxConcurrency": 1, "maxQueue": 0, "timeout": "20s"},
            },
        )

    @property
    def host(self) -> str:
        return f"{self.name}.{self._served.namespace}.svc"

    def certify(self) -> str:
        """Give it a new certificate, and return the serial number of it."""
        pair = self._authority.issue(host=self.host)
        self._secret("certificate", "kubernetes.io/tls", {"tls.crt": pair.cert, "tls.key": pair.key})
        return pair.serial

    def admit(self) -> str:
        """Have it take a new key and no other, and return that."""
        key = keys.new_key()
        self._secret("keys", "Opaque", {"ann": keys.line_of(key).encode()})
        return key

    def _secret(self, name: str, kind: str, data: dict[str, bytes]) -> None:
        encoded = {entry: base64.b64encode(content).decode() for entry, content in data.items()}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind, "data": encoded}
        self._served.kubectl("apply", "-f", "-", stdin=json.dumps(secret))

    def pod(self) -> dict[str, Any]:
        [pod] = self._served.get("pods", "-l", f"onceserve.dev/modeldeployment={self.name}")["items"]
        found: dict[str, Any] = pod
        return found

    def calls_if_reached(self, key: str) -> dict[str, Any]:
        """Return what comes of calls, or nothing while no connection is taken."""
        try:
            return self.calls(key)
        except ClusterError as error:
            if "Connection refused" not in str(error):
                raise
            return {}

    def calls(self, key: str) -> dict[str, Any]:
        """Return what comes of calls with a key, made by another pod of the cluster."""
        row = first_row()
        what = [self.host, "breast-cancer", self._authority.cert.decode(), key, request_body(row).decode()]
        command = ["exec", "-i", self._served.ready_pods()[0], "--", "python", "-", *what, json.dumps(row[0])]
        seen: dict[str, Any] = json.loads(self._served.kubectl(*command, stdin=CALLS.read_text()))
        return seen


CALLS = Path(__file__).parents[1] / "support" / "guarded_calls.py"
ROTATED_WITHIN = 150
"""Seconds that a kubelet takes at most to renew what it has mounted, and then some."""


@pytest.fixture
def guarded(ready: Served) -> Guarded:
    return Guarded(ready)


def test_keys_and_certificates_are_awaited_used_and_rotated(ready: Served, guarded: Guarded) -> None:
    def reason() -> bool:
        return ready.condition("Ready", guarded.name).get("reason") == "SecretAwaited"

    eventually(reason, "Ready says SecretAwaited", EXPLAINED_WITHIN)
    message = ready.condition("Ready", guarded.name)["message"]
    assert message.endswith(": Secret keys and Secret certificate")
    serial, key = guarded.certify(), guarded.admit()
    ready.wait("Ready", name=guarded.name)
    assert ready.status(guarded.name)["url"] == f"https://{guarded.host}"
    pod = guarded.pod()

    # Ready tells that the Service leads to the pod; the nodes learn of it in their own time.
    seen = eventually(lambda: guarded.calls_if_reached(key), "the Service answers")
    assert seen["serial"] == serial
    assert (seen["rest"][0], answered(seen["rest"][1])) == (200, expected(first_row()))
    assert seen["grpc"] == ["OK", expected(first_row())]
    # One waits for others to fill its batch, and nobody may wait for it.
    assert seen["crowd"] == [200, 429, 429, 429]
    refused = guarded.calls("onceserve_unknown")
    assert (refused["rest"][0], refused["grpc"], refused["crowd"]) == (401, ["UNAUTHENTICATED", {}], [401] * 4)

    renewed, other = guarded.certify(), guarded.admit()

    def is_rotated() -> bool:
        now = guarded.calls(other)
        return (now["serial"], now["rest"][0], now["grpc"][0]) == (renewed, 200, "OK")

    eventually(is_rotated, "the new key and certificate", ROTATED_WITHIN)
    assert guarded.calls(key)["rest"][0] == 401
    now = guarded.pod()
    assert now["metadata"]["uid"] == pod["metadata"]["uid"]
    assert [each["restartCount"] for each in now["status"]["containerStatuses"]] == [0]
