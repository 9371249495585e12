"""The operator process against a real API server with its controllers; tests report in place of kubelets."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.cluster import Cluster
from devcluster.errors import ClusterError
from onceserve_contract.termination import Failure, FailureReason
from support.api_server import Api
from support.modeldeployments import collection, deployment
from support.operator_process import IMAGE, OperatorProcess, install_rights, running_operator
from support.pods import ENCRYPTED
from support.rights import granted, requests, used
from support.rollouts import OWNED, Deployed
from support.waiting import eventually, steadily

SPEC: dict[str, Any] = {"replicas": 3, "model": {"uri": "https://models.example/a.onnx"}}
OTHER_MODEL = {"model": {"uri": "https://models.example/b.onnx"}}
RESYNC = 2.0
RESYNCS = 3


@pytest.fixture(scope="module")
def kubeconfig(cluster: Cluster, definition: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_rights(cluster, tmp_path_factory.mktemp("operator"))


@pytest.fixture(scope="module")
def operator(kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    with running_operator(kubeconfig, tmp_path_factory.mktemp("log"), RESYNC) as process:
        yield process


@pytest.fixture
def created(api: Api, namespace: str, operator: OperatorProcess) -> Deployed:
    return Deployed.create(api, namespace, SPEC)


@pytest.fixture
def serving(created: Deployed) -> Deployed:
    """A ModelDeployment whose pods answer, as far as the API server knows."""
    revision = created.await_target()
    created.report_ready(created.await_pods(revision, 3))
    created.await_condition("Ready", "True")
    created.await_condition("Reconciling", "False")
    return created


def writes(cluster: Cluster, namespace: str) -> list[str]:
    """Return what the operator has written in a namespace."""
    entries = (entry for entry in requests(cluster, namespace) if entry["verb"] not in {"get", "list", "watch"})
    return [f"{entry['verb']} {entry['objectRef']['resource']}" for entry in entries]


def resyncs(operator: OperatorProcess) -> int:
    return int(operator.metric("onceserve_operator_resync_total"))


def test_every_child_is_made_with_its_owner(created: Deployed) -> None:
    for plural in OWNED:
        children = eventually(lambda plural=plural: created.children(plural), plural)  # type: ignore[misc]
        assert len(children) == 1
        [owner] = children[0]["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["controller"]) == ("ModelDeployment", "risk", True)
    assert created.children("deployments")[0]["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGE


def test_status_follows_the_pods(serving: Deployed) -> None:
    status = serving.status()
    assert (status["replicas"], status["readyReplicas"]) == (3, 3)
    assert status["url"] == f"http://risk.{serving.namespace}.svc"
    assert status["stableRevision"] == status["targetRevision"] == status["revisions"][0]["name"]
    assert ("Normal", "Serving") in eventually(serving.events, "events")


def test_kubectl_wait_and_scale_work(serving: Deployed, cluster: Cluster) -> None:
    cluster.kubectl("wait", "--for=condition=Ready", "--timeout=5s", "-n", serving.namespace, "mdep/risk")
    cluster.kubectl("scale", "mdep/risk", "--replicas=4", "-n", serving.namespace)
    revision = serving.status()["targetRevision"]
    serving.report_ready(serving.await_pods(revision, 4))
    eventually(lambda: serving.status()["readyReplicas"] == 4, "4 ready replicas")
    assert len(serving.children("controllerrevisions")) == 1


def test_a_pass_over_an_unchanged_world_writes_nothing(
    serving: Deployed, operator: OperatorProcess, cluster: Cluster
) -> None:
    before = resyncs(operator)
    eventually(lambda: resyncs(operator) > before, "the passes that the last change led to, and one more")
    first, written = resyncs(operator), writes(cluster, serving.namespace)
    assert written
    eventually(lambda: resyncs(operator) >= first + RESYNCS, "further passes over all resources")
    assert writes(cluster, serving.namespace) == written


def test_nobody_s_object_gets_a_finalizer_or_an_annotation(serving: Deployed) -> None:
    metadata = serving.read()["metadata"]
    assert "finalizers" not in metadata
    assert "annotations" not in metadata


@pytest.mark.parametrize(
    ("plural", "change"),
    [
        ("services", {"spec": {"selector": {"onceserve.dev/revision": "nobody"}}}),
        ("services", {"spec": {"selector": {"tier": "other"}}}),
        ("poddisruptionbudgets", {"spec": {"selector": {"matchLabels": {"tier": "other"}}}}),
        ("deployments", {"spec": {"replicas": 7}}),
        ("deployments", {"spec": {"template": {"spec": {"priority": None, "terminationGracePeriodSeconds": 1}}}}),
        ("poddisruptionbudgets", {"spec": {"maxUnavailable": 3}}),
        ("serviceaccounts", {"automountServiceAccountToken": True}),
        ("services", {"metadata": {"labels": {"app.kubernetes.io/part-of": None}}}),
    ],
)
def test_drift_is_mended(serving: Deployed, plural: str, change: dict[str, Any]) -> None:
    [child] = serving.children(plural)
    name = child["metadata"]["name"]
    before = {key: child[key] for key in ("spec", "automountServiceAccountToken") if key in child}
    serving.change_child(plural, name, change)

    def mended() -> bool:
        now = serving.child(plural, name) or {}
        labels = now.get("metadata", {}).get("labels")
        return {key: now.get(key) for key in before} == before and labels == child["metadata"]["labels"]

    eventually(mended, f"{plural} as before")


@pytest.mark.parametrize("plural", OWNED)
def test_a_deleted_child_comes_back(serving: Deployed, plural: str) -> None:
    [child] = serving.children(plural)
    name = child["metadata"]["name"]
    serving.delete_child(plural, name)

    def is_back() -> bool:
        now = serving.child(plural, name)
        return now is not None and now["metadata"]["uid"] != child["metadata"]["uid"]

    eventually(is_back, f"{plural} {name} made anew")


def test_fields_of_others_are_left_alone(serving: Deployed, operator: OperatorProcess) -> None:
    serving.change_child("services", "risk", {"metadata": {"annotations": {"mesh.example/inject": "yes"}}})
    before = resyncs(operator)
    eventually(lambda: resyncs(operator) > before + 1, "passes after the change")
    service = serving.child("services", "risk")
    assert service is not None
    assert service["metadata"]["annotations"]["mesh.example/inject"] == "yes"


def test_deletion_takes_everything_with_it(serving: Deployed) -> None:
    assert serving.api.delete(serving.path).accepted
    for plural in (*OWNED, "pods"):
        eventually(lambda plural=plural: not serving.children(plural), f"no {plural}")  # type: ignore[misc]


def test_a_changed_spec_moves_traffic_once_the_new_revision_is_ready(serving: Deployed) -> None:
    first = serving.routed_revision()
    serving.change(OTHER_MODEL)
    second = serving.await_target(other_than=first)
    serving.await_pods(second, 1)
    steadily(lambda: serving.routed_revision() == first, "traffic stays with the old revision", 1)
    serving.complete(second)
    eventually(lambda: serving.status()["replicas"] == 3, "the old pods are gone")
    assert serving.child("deployments", str(first)) is not None


def test_a_service_changes_to_tls_in_the_moment_in_which_its_pods_do(serving: Deployed) -> None:
    first = serving.routed_revision()
    serving.change({"server": {"tls": {"secretName": "certificate"}}})
    second = serving.await_target(other_than=first)
    assert (service_ports(serving), serving.status()["url"]) == ([80, 8081], f"http://risk.{serving.namespace}.svc")
    serving.report_ready(serving.await_pods(second, 3), ENCRYPTED)
    eventually(lambda: serving.routed_revision() == second, "traffic moves")
    assert service_ports(serving) == [443, 8081]
    serving.await_condition("Ready", "True")
    assert serving.status()["url"] == f"https://risk.{serving.namespace}.svc"


def service_ports(deployed: Deployed) -> list[int]:
    [service] = deployed.children("services")
    return [port["port"] for port in service["spec"]["ports"]]


def test_what_is_no_longer_wanted_is_deleted(serving: Deployed) -> None:
    first = serving.routed_revision()
    serving.change({"server": {"serviceAccountName": "default"}, "rollout": {"revisionHistoryLimit": 0}})
    second = serving.await_target(other_than=first)
    assert len(serving.children("serviceaccounts")) == 1
    serving.complete(second)
    eventually(lambda: serving.children("serviceaccounts") == [], "its own ServiceAccount is gone")
    for plural in ("controllerrevisions", "deployments"):
        eventually(lambda plural=plural: len(serving.children(plural)) == 1, f"one of {plural}")  # type: ignore[misc]


def test_a_preview_comes_and_goes_with_the_strategy(serving: Deployed) -> None:
    serving.change({"rollout": {"strategy": "BlueGreen"}})
    eventually(lambda: serving.child("services", "risk-preview"), "a preview")
    serving.change({"rollout": {"strategy": "RollingUpdate"}})
    eventually(lambda: serving.child("services", "risk-preview") is None, "no preview")


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_an_operator_that_ends_in_mid_rollout_is_replaced_without_a_trace(
    serving: Deployed, operator: OperatorProcess, end: signal.Signals
) -> None:
    first = serving.routed_revision()
    serving.change(OTHER_MODEL)
    second = serving.await_target(other_than=first)
    pods = serving.await_pods(second, 1)
    operator.stop(end)
    serving.report_ready(pods)
    steadily(lambda: serving.routed_revision() == first, "nobody moves traffic", 1)
    operator.start()
    serving.complete(second)


@pytest.mark.parametrize(
    "failure",
    [
        Failure(FailureReason.NOT_FOUND, "https://models.example/b.onnx: the host says 404"),
        Failure(FailureReason.DIGEST_MISMATCH, "https://models.example/b.onnx has sha256 aa, must have bb"),
    ],
    ids=lambda failure: failure.reason,
)
def test_a_bad_model_is_explained_and_keeps_no_other_waiting(
    serving: Deployed, failure: Failure, operator: OperatorProcess
) -> None:
    first = serving.routed_revision()
    serving.change(OTHER_MODEL)
    serving.report_failure(serving.await_pods(serving.await_target(other_than=first), 1), failure)
    assert serving.await_condition("ModelLoaded", "False", failure.reason) == failure.message
    assert failure.message in serving.await_condition("Ready", "False", failure.reason)
    serving.await_condition("Stalled", "True", failure.reason)
    serving.await_condition("Available", "True")
    assert ("Warning", failure.reason) in eventually(serving.events, "events")
    assert serving.routed_revision() == first
    good = Deployed.create(serving.api, serving.namespace, SPEC, "good")
    revision = good.await_target()
    good.report_ready(good.await_pods(revision, 3))
    good.await_condition("Ready", "True")
    serving.change({"model": SPEC["model"]})
    serving.await_condition("Ready", "True")


KEEPING = {"store": {"type": "Redis", "urlFrom": {"secretKeyRef": {"name": "store", "key": "url"}}}}
FORGETFUL = Failure(FailureReason.STORE_REFUSED, "the store redis r:6379/0: maxmemory-policy is allkeys-lru")


def test_a_store_that_pods_refuse_is_explained_and_the_old_pods_go_on(serving: Deployed) -> None:
    first = serving.routed_revision()
    serving.change({"idempotency": KEEPING})
    second = serving.await_target(other_than=first)
    pods = serving.await_pods(second, 1)
    assert serving.await_condition("IdempotencyStoreReady", "Unknown")
    serving.report_failure(pods, FORGETFUL)
    for kind in ("IdempotencyStoreReady", "Ready"):
        assert FORGETFUL.message in serving.await_condition(kind, "False", "StoreRefused")
    serving.await_condition("ModelLoaded", "Unknown")
    assert serving.routed_revision() == first
    serving.report_ready(pods)
    serving.await_condition("IdempotencyStoreReady", "True", "NotRefused")
    serving.complete(second)


def test_a_memory_store_cannot_be_scaled_beyond_the_pod_that_has_it(
    api: Api, namespace: str, operator: OperatorProcess, cluster: Cluster
) -> None:
    Deployed.create(api, namespace, {"model": SPEC["model"], "idempotency": {"store": {"type": "Memory"}}})
    with pytest.raises(ClusterError, match=r"replicas above 1 need an idempotency\.store that they share"):
        cluster.kubectl("scale", "mdep/risk", "--replicas=2", "-n", namespace)


def test_a_service_of_someone_else_is_never_taken(api: Api, namespace: str, operator: OperatorProcess) -> None:
    theirs = {"metadata": {"name": "risk"}, "spec": {"ports": [{"port": 5432}], "selector": {"app": "database"}}}
    assert api.create(f"/api/v1/namespaces/{namespace}/services", theirs).accepted
    deployed = Deployed.create(api, namespace, SPEC)
    message = deployed.await_condition("Ready", "False", "NameTaken")
    assert message == "Service risk exists and belongs to something else"
    assert api.get(f"/api/v1/namespaces/{namespace}/services/risk").body["spec"]["selector"] == {"app": "database"}
    deployed.delete_child("services", "risk")
    eventually(lambda: deployed.children("services"), "its own Service")


def test_a_spec_that_this_release_cannot_read_is_explained(
    api: Api, namespace: str, operator: OperatorProcess, definition: dict[str, Any], cluster: Cluster
) -> None:
    """An object of another release, whose CRD had no limit on replicas."""
    loose = json.loads(json.dumps(definition))
    spec = loose["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["replicas"].pop("maximum")
    cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(loose))
    try:
        odd = {**SPEC, "replicas": 5000}
        path = collection(namespace)
        eventually(lambda: api.create(path, deployment(odd)).accepted, "the loose definition in force")
        deployed = Deployed(api, namespace, "risk")
        message = deployed.await_condition("SpecAccepted", "False", "Invalid")
    finally:
        cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(definition))
    assert message == "spec.replicas: Input should be less than or equal to 1000"
    deployed.await_condition("Ready", "False", "Invalid")
    assert deployed.children("deployments") == []


@pytest.mark.parametrize("levels", [600, 5_000, 9_900])
def test_a_spec_that_is_nested_without_measure_is_refused_and_keeps_no_other_waiting(
    api: Api, namespace: str, operator: OperatorProcess, cluster: Cluster, levels: int
) -> None:
    """An API server takes 10,000 levels; it knows no form of a golden request's data."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "data": ["nested"]}
    deep = deployment({**SPEC, "rollout": {"verification": {"requests": [{"inputs": [tensor]}]}}}, "deep")
    sent = json.dumps(deep).replace('"nested"', "[" * levels + "]" * levels)
    cluster.kubectl("create", "--raw", collection(namespace), "-f", "-", stdin=sent)
    path = "jsonpath={.status.conditions[?(@.type=='SpecAccepted')].message}"

    def words() -> str:
        return cluster.kubectl("get", "mdep/deep", "-n", namespace, "-o", path)

    eventually(lambda: "lists are nested more than 16 deep" in words(), "the refusal")
    serve(Deployed.create(api, namespace, SPEC, "good"))
    # What comes from a watch is read as what is listed.
    operator.stop()
    operator.start()
    before = resyncs(operator)
    cluster.kubectl("label", "mdep/deep", "-n", namespace, "looked=at")
    eventually(lambda: resyncs(operator) > before + 1, "resyncs")
    serve(Deployed.create(api, namespace, SPEC, "another"))


def serve(deployed: Deployed) -> None:
    deployed.report_ready(deployed.await_pods(deployed.await_target(), 3))
    deployed.await_condition("Ready", "True")


def test_the_chart_grants_what_the_operator_does_and_no_more(serving: Deployed, cluster: Cluster) -> None:
    """By the API server's audit log of this whole module."""
    needed_elsewhere = {("modeldeployments/finalizers", "update")}
    # What is done with these is seen where there are any.
    elsewhere = {"httproutes", "horizontalpodautoscalers", "modeldeployments/scale"}
    expected = {each for each in used(cluster) if each[0] not in elsewhere} | needed_elsewhere
    assert {each for each in granted(cluster) if each[0] not in elsewhere} == expected


def test_a_resource_made_anew_under_its_name_is_not_ready_by_the_pods_of_the_former(serving: Deployed) -> None:
    uid = serving.read()["metadata"]["uid"]
    assert serving.api.delete(f"{serving.path}?propagationPolicy=Background").accepted
    again = Deployed.create(serving.api, serving.namespace, SPEC)
    assert again.read()["metadata"]["uid"] != uid
    again.await_pods(again.await_target(), 3)
    again.await_condition("Ready", "False")

    def made_anew() -> bool:
        children = [child for plural in OWNED for child in again.children(plural)]
        owners = {child["metadata"]["ownerReferences"][0]["uid"] for child in children}
        return len(children) == len(OWNED) and owners == {again.read()["metadata"]["uid"]}

    eventually(made_anew, "children of the new resource alone")


def test_a_service_that_is_refused_keeps_the_old_pods(serving: Deployed, cluster: Cluster) -> None:
    """An admission policy forbids what the rollout needs at its most delicate step."""
    first = serving.routed_revision()
    serving.change(OTHER_MODEL)
    second = serving.await_target(other_than=first)
    pods = serving.await_pods(second, 1)
    with forbidden_services(cluster, serving.namespace):
        serving.report_ready(pods)
        message = serving.await_condition("Ready", "False", "WriteRefused")
        assert "no Service may change" in message
        deployment = serving.child("deployments", str(first))
        assert deployment is not None
        assert (serving.routed_revision(), deployment["spec"]["replicas"]) == (first, 3)
    serving.complete(second)


def test_a_revision_that_cannot_be_stored_is_not_run(serving: Deployed) -> None:
    """Pods that nothing remembers would be taken away with the next change."""
    first = serving.routed_revision()
    quotas = f"/api/v1/namespaces/{serving.namespace}/resourcequotas"
    quota = {"metadata": {"name": "records"}, "spec": {"hard": {"count/controllerrevisions.apps": "1"}}}
    assert serving.api.create(quotas, quota).accepted
    eventually(lambda: "used" in serving.api.get(f"{quotas}/records").body["status"], "the quota in force")
    serving.change(OTHER_MODEL)
    second = serving.await_target(other_than=first)
    message = serving.await_condition("Ready", "False", "WriteRefused")
    assert message.startswith(f"ControllerRevision {second}: ")
    assert "exceeded quota" in message
    steadily(lambda: serving.child("deployments", second) is None, "nothing runs it", 2 * RESYNC)
    assert serving.routed_revision() == first
    assert serving.api.delete(f"{quotas}/records").accepted
    serving.complete(second)


@contextmanager
def forbidden_services(cluster: Cluster, namespace: str) -> Iterator[None]:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["services"]}
    metadata = {"name": "no-services"}
    group = "admissionregistration.k8s.io/v1"
    policy = {
        "apiVersion": group,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": metadata,
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": f"request.namespace != '{namespace}'", "message": "no Service may change"}],
        },
    }
    spec = {"policyName": "no-services", "validationActions": ["Deny"]}
    binding = {"apiVersion": group, "kind": "ValidatingAdmissionPolicyBinding", "metadata": metadata, "spec": spec}
    manifests = yaml.safe_dump_all([policy, binding])
    probe = ["annotate", "service/risk", "-n", namespace, "--overwrite"]
    cluster.kubectl("apply", "-f", "-", stdin=manifests)
    try:
        eventually(lambda: not _succeeds(cluster, *probe, f"probe={time.monotonic()}"), "the policy in force")
        yield
    finally:
        cluster.kubectl("delete", "-f", "-", stdin=manifests)


def _succeeds(cluster: Cluster, *arguments: str) -> bool:
    try:
        cluster.kubectl(*arguments)
    except ClusterError:
        return False
    return True
