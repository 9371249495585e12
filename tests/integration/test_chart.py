"""The chart on a real API server, by the real Helm: installed, upgraded, taken away."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.cluster import Cluster, control_plane
from devcluster.errors import ClusterError
from devcluster.wait import wait_until
from support.helm import CHART, Helm, HelmError
from support.modeldeployments import MINIMAL, deployment

NAMESPACE = "onceserve"
CRD = "modeldeployments.onceserve.dev"
OPERATOR = f"system:serviceaccount:{NAMESPACE}:onceserve-operator"
PART = "app.kubernetes.io/part-of=onceserve,app.kubernetes.io/component=store"
RESTRICTED = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane of its own: these tests install and remove what the others rely on."""
    with control_plane("chart", tmp_path_factory.mktemp("chart") / "cluster") as started:
        for name in ("team-a", "team-b"):
            started.kubectl("create", "namespace", name)
        started.kubectl("create", "-f", "-", stdin=yaml.safe_dump(RESTRICTED))
        yield started


@pytest.fixture(scope="module")
def installer(bare: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    environment = {"KUBECONFIG": str(bare.kubeconfig), "HELM_NAMESPACE": NAMESPACE}
    return Helm(bare.binary("helm"), tmp_path_factory.mktemp("helm"), environment)


@pytest.fixture
def notes(bare: Cluster, installer: Helm) -> Iterator[str]:
    """What a person reads after the installation with the default values."""
    yield installer("install", "onceserve", CHART)
    remove(bare, installer)


def remove(bare: Cluster, installer: Helm) -> None:
    installer("uninstall", "onceserve", "--ignore-not-found", "--wait")
    bare.kubectl("delete", "crd", CRD, "--ignore-not-found")


def can(bare: Cluster, user: str, verb: str, resource: str, namespace: str = "team-a") -> bool:
    kind, _, subresource = resource.partition("/")
    flags = [f"--subresource={subresource}", f"--as={user}", f"--namespace={namespace}"]
    try:
        return bare.kubectl("auth", "can-i", verb, kind, *flags).strip() == "yes"
    except ClusterError:
        return False


def apply(cluster: Cluster, namespace: str, manifest: dict[str, Any]) -> None:
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=yaml.safe_dump(manifest))


def test_the_notes_say_what_to_type_next(bare: Cluster, notes: str) -> None:
    steps = [notes.index(words) for words in ("rollout status", "kind: ModelDeployment", "wait --for", "get mdep")]
    assert steps == sorted(steps)
    assert "kubectl --namespace onceserve rollout status deployment/onceserve-operator" in notes
    bare.kubectl("-n", NAMESPACE, "get", "deployment/onceserve-operator")
    assert "<no value>" not in notes


@pytest.mark.usefixtures("notes")
def test_the_example_of_the_notes_is_accepted(bare: Cluster, notes: str) -> None:
    lines = notes.partition("<<EOF\n")[2].partition("EOF")[0]
    apply(bare, "default", yaml.safe_load(lines))
    assert bare.kubectl("-n", "default", "get", "mdep", "-o", "name").split() == ["modeldeployment.onceserve.dev/risk"]


@pytest.mark.usefixtures("notes")
def test_the_pod_passes_restricted_pod_security(bare: Cluster) -> None:
    """No node runs it, yet its creation by the ReplicaSet shows that admission lets it pass."""

    def pods() -> str:
        return bare.kubectl("-n", NAMESPACE, "get", "pods", "-o", "name")

    assert wait_until(lambda: bool(pods()), 20), bare.kubectl("-n", NAMESPACE, "get", "events")


ALLOWED = [
    ("watch", "modeldeployments.onceserve.dev"),
    ("patch", "modeldeployments.onceserve.dev/status"),
    ("patch", "modeldeployments.onceserve.dev/scale"),
    ("update", "modeldeployments.onceserve.dev/finalizers"),
    ("create", "deployments.apps"),
    ("patch", "controllerrevisions.apps"),
    ("delete", "deployments.apps"),
    ("patch", "poddisruptionbudgets.policy"),
    ("create", "horizontalpodautoscalers.autoscaling"),
    ("delete", "horizontalpodautoscalers.autoscaling"),
    ("patch", "services"),
    ("delete", "services"),
    ("create", "serviceaccounts"),
    ("list", "pods"),
    ("create", "events"),
]
FORBIDDEN = [
    ("get", "secrets"),
    ("get", "configmaps"),
    ("delete", "pods"),
    ("delete", "poddisruptionbudgets.policy"),
    ("create", "pods/exec"),
    ("patch", "modeldeployments.onceserve.dev"),
    ("delete", "modeldeployments.onceserve.dev"),
    ("create", "serviceaccounts/token"),
    ("list", "namespaces"),
    ("list", "customresourcedefinitions.apiextensions.k8s.io"),
    ("create", "rolebindings.rbac.authorization.k8s.io"),
    ("get", "leases.coordination.k8s.io"),
    ("create", "leases.coordination.k8s.io"),
]


@pytest.mark.usefixtures("notes")
def test_the_operator_may_do_its_work_and_nothing_else(bare: Cluster) -> None:
    assert wait_until(lambda: can(bare, OPERATOR, *ALLOWED[0]), 10)
    assert [right for right in ALLOWED if not can(bare, OPERATOR, *right)] == []
    assert [right for right in FORBIDDEN if can(bare, OPERATOR, *right)] == []


@pytest.mark.usefixtures("notes")
def test_the_operator_may_hold_its_own_lease_and_no_other(bare: Cluster) -> None:
    def may(verb: str, name: str) -> bool:
        asked = ["auth", "can-i", verb, f"leases.coordination.k8s.io/{name}", f"--as={OPERATOR}", "-n", NAMESPACE]
        try:
            return bare.kubectl(*asked).strip() == "yes"
        except ClusterError:
            return False

    assert wait_until(lambda: may("update", "onceserve-operator"), 10)
    assert may("get", "onceserve-operator")
    assert not may("update", "another")
    assert not may("delete", "onceserve-operator")


def test_limited_to_namespaces_the_operator_may_do_nothing_elsewhere(bare: Cluster, installer: Helm) -> None:
    installer("install", "onceserve", CHART, values={"watchNamespaces": ["team-a"]})
    try:
        assert wait_until(lambda: can(bare, OPERATOR, *ALLOWED[0]), 10)
        assert [right for right in ALLOWED if not can(bare, OPERATOR, *right)] == []
        assert [right for right in ALLOWED if can(bare, OPERATOR, *right, namespace="team-b")] == []
    finally:
        remove(bare, installer)


@pytest.mark.usefixtures("notes")
def test_people_get_the_rights_of_their_role(bare: Cluster) -> None:
    for role in ("view", "edit"):
        bare.kubectl("create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}er", "-n", "team-a")
    resource, scale = CRD, f"{CRD}/scale"
    assert wait_until(lambda: can(bare, "viewer", "get", resource) and can(bare, "editer", "create", resource), 20)
    assert can(bare, "viewer", "get", scale)
    assert not can(bare, "viewer", "patch", resource)
    assert not can(bare, "viewer", "patch", scale)
    assert can(bare, "editer", "update", scale)
    assert can(bare, "editer", "delete", resource)
    assert not can(bare, "editer", "patch", f"{resource}/status")


def secret(bare: Cluster) -> dict[str, str]:
    template = "go-template={{range $entry, $value := .data}}{{$entry}} {{$value | base64decode}}|{{end}}"
    entries = bare.kubectl("-n", NAMESPACE, "get", "secret", "onceserve-store", "-o", template).split("|")
    return dict(entry.split(" ", 1) for entry in entries if entry)


def test_the_store_keeps_its_password_and_its_pod_passes_restricted_pod_security(
    bare: Cluster, installer: Helm
) -> None:
    values = {"store": {"enabled": True}}
    notes = installer("install", "onceserve", CHART, values=values)
    try:
        made = secret(bare)
        assert len(made["password"]) == 40
        assert made["redis.conf"] == f"requirepass {made['password']}\n"
        assert made["url"] == f"redis://:{made['password']}@onceserve-store.{NAMESPACE}.svc:6379"
        assert "get secret onceserve-store -o go-template='{{.data.url | base64decode}}'" in notes
        pod = ["-n", NAMESPACE, "get", "pod", "onceserve-store-0", "--ignore-not-found"]
        assert wait_until(lambda: bool(bare.kubectl(*pod)), 20), bare.kubectl("-n", NAMESPACE, "get", "events")
        installer("upgrade", "onceserve", CHART, values=values)
        assert secret(bare) == made
        installer("uninstall", "onceserve", "--wait")
        installer("install", "onceserve", CHART, values=values)
        assert secret(bare) == made
    finally:
        remove(bare, installer)
        bare.kubectl("-n", NAMESPACE, "delete", "secret/onceserve-store", "pvc/data-onceserve-store-0")


@pytest.mark.usefixtures("notes")
def test_without_being_asked_for_there_is_no_store(bare: Cluster) -> None:
    assert bare.kubectl("-n", NAMESPACE, "get", "statefulsets,secrets,services", "-o", "name", "-l", PART) == ""


def columns(bare: Cluster) -> list[str]:
    path = "jsonpath={.spec.versions[0].additionalPrinterColumns[*].name}"
    return bare.kubectl("get", "crd", CRD, "-o", path).split()


def older(folder: Path) -> Path:
    """A chart whose definition lacks what ours has."""
    chart = folder / "onceserve"
    shutil.copytree(CHART, chart)
    definition = chart / "files" / f"{CRD}.yaml"
    content = yaml.safe_load(definition.read_text())
    content["spec"]["versions"][0]["additionalPrinterColumns"] = []
    del content["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["availability"]
    definition.write_text(yaml.safe_dump(content))
    return chart


def test_an_upgrade_brings_the_definition_up_to_date_and_keeps_objects(
    bare: Cluster, installer: Helm, tmp_path: Path
) -> None:
    installer("install", "onceserve", older(tmp_path))
    try:
        apply(bare, "team-a", deployment(MINIMAL))
        assert columns(bare) == []
        installer("upgrade", "onceserve", CHART)
        assert columns(bare)[:2] == ["Ready", "Desired"]
        assert (
            bare.kubectl("-n", "team-a", "get", "mdep/risk", "-o", "jsonpath={.spec.availability.spread}")
            == "Preferred"
        )
    finally:
        remove(bare, installer)


def test_an_upgrade_with_other_values_changes_the_operator(bare: Cluster, installer: Helm, notes: str) -> None:
    assert notes
    installer("upgrade", "onceserve", CHART, values={"operator": {"logLevel": "debug"}})
    path = 'jsonpath={.spec.template.spec.containers[0].env[?(@.name=="ONCESERVE_OPERATOR_LOG_LEVEL")].value}'
    assert bare.kubectl("-n", NAMESPACE, "get", "deployment/onceserve-operator", "-o", path) == "debug"


@pytest.mark.usefixtures("notes")
def test_an_unchanged_upgrade_changes_no_object(bare: Cluster, installer: Helm) -> None:
    def generations() -> str:
        kinds = "deployment,serviceaccount,clusterrole,crd"
        path = "jsonpath={range .items[*]}{.kind}/{.metadata.name}:{.metadata.generation}{'\\n'}{end}"
        return bare.kubectl("-n", NAMESPACE, "get", kinds, "-l", "app.kubernetes.io/part-of=onceserve", "-o", path)

    before = generations()
    installer("upgrade", "onceserve", CHART)
    assert before
    assert generations() == before


@pytest.mark.usefixtures("notes")
def test_uninstalling_keeps_definition_and_objects_and_installing_takes_them_back(
    bare: Cluster, installer: Helm
) -> None:
    apply(bare, "team-a", deployment(MINIMAL))
    installer("uninstall", "onceserve", "--wait")
    assert bare.kubectl("-n", "team-a", "get", "mdep", "-o", "name").split() == ["modeldeployment.onceserve.dev/risk"]
    left = bare.kubectl(
        "get", "clusterrole,clusterrolebinding", "-l", "app.kubernetes.io/part-of=onceserve", "-o", "name"
    )
    assert left == ""
    installer("install", "onceserve", CHART)


@pytest.mark.usefixtures("notes")
def test_giving_the_definition_away_keeps_it(bare: Cluster, installer: Helm) -> None:
    apply(bare, "team-a", deployment(MINIMAL))
    installer("upgrade", "onceserve", CHART, values={"crds": {"install": False}})
    assert bare.kubectl("-n", "team-a", "get", "mdep", "-o", "name").split() == ["modeldeployment.onceserve.dev/risk"]


def test_values_that_the_chart_does_not_know_stop_an_installation(bare: Cluster, installer: Helm) -> None:
    with pytest.raises(HelmError, match="replicas"):
        installer("install", "onceserve", CHART, values={"replicas": 2})
    assert bare.kubectl("-n", NAMESPACE, "get", "deployments", "-o", "name") == ""
