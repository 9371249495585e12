import copy
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from onceserve_operator.settings import Settings
from support.helm import CHART, Helm, HelmError
from support.modeldeployments import merged

ROOT = Path(__file__).parents[3]
Values = dict[str, Any]


def nested(path: str, value: Any) -> Values:
    for name in reversed(path.split(".")):
        value = {name: value}
    return dict(value)


def by_kind(manifests: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def test_lint_finds_nothing(helm: Helm) -> None:
    helm("lint", "--strict", CHART)


def test_the_chart_has_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == project["version"]


def test_the_definition_is_the_generated_one_and_stays_on_uninstall(helm: Helm) -> None:
    [rendered] = by_kind(helm.manifests({}), "CustomResourceDefinition")
    source = yaml.safe_load((ROOT / "crds" / "modeldeployments.onceserve.dev.yaml").read_text())
    assert (rendered["metadata"]["name"], rendered["spec"]) == (source["metadata"]["name"], source["spec"])
    assert rendered["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_the_definition_can_be_left_to_someone_else(helm: Helm) -> None:
    assert not by_kind(helm.manifests(nested("crds.install", False)), "CustomResourceDefinition")


def test_an_installation_for_namespaces_can_do_without_any_right_in_the_cluster(helm: Helm) -> None:
    values = {"watchNamespaces": ["a", "b"], "crds": {"install": False}, "rbac": {"aggregate": False}}
    manifests = helm.manifests(values)
    assert all("namespace" in manifest["metadata"] for manifest in manifests)
    roles = [role["metadata"] for role in by_kind(manifests, "Role")]
    assert [role["namespace"] for role in roles] == ["onceserve", "a", "b"]
    assert roles[0]["name"] == "onceserve-operator-lease"


def test_the_rights_are_the_same_in_the_cluster_and_in_namespaces(helm: Helm) -> None:
    lease, role = by_kind(helm.manifests({"watchNamespaces": ["a"]}), "Role")
    manifests = helm.manifests({"rbac": {"aggregate": False}})
    assert [role["rules"]] == [each["rules"] for each in by_kind(manifests, "ClusterRole")]
    assert [lease["rules"]] == [each["rules"] for each in by_kind(manifests, "Role")]


def test_no_lease_but_its_own_can_be_read_or_changed(helm: Helm) -> None:
    [role] = by_kind(helm.manifests({}), "Role")
    [deployment] = by_kind(helm.manifests({}), "Deployment")
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    environment = {each["name"]: each["value"] for each in container["env"]}
    name = environment["ONCESERVE_OPERATOR_LEASE_NAME"]
    assert role["metadata"]["namespace"] == environment["ONCESERVE_OPERATOR_LEASE_NAMESPACE"]
    assert [(rule.get("resourceNames"), rule["verbs"]) for rule in role["rules"]] == [
        (None, ["create"]),
        ([name], ["get", "update"]),
    ]


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_nodes_can_be_drained_and_the_operator_upgraded_whatever_its_size(helm: Helm, replicas: int) -> None:
    manifests = helm.manifests(nested("operator.replicas", replicas))
    [deployment], [budget] = by_kind(manifests, "Deployment"), by_kind(manifests, "PodDisruptionBudget")
    assert deployment["spec"]["replicas"] == replicas
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["selector"] == deployment["spec"]["selector"]
    template = deployment["spec"]["template"]
    for spread in template["spec"]["topologySpreadConstraints"]:
        assert spread["labelSelector"] == deployment["spec"]["selector"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()


def test_no_right_is_for_everything(helm: Helm) -> None:
    for role in by_kind(helm.manifests({}), "ClusterRole"):
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert not {"secrets", "pods/exec", "roles", "clusterroles"} & set(rule["resources"])


@pytest.mark.parametrize("release", ["onceserve", "a-onceserve-b", "prod", "x" * 53])
def test_every_name_fits(helm: Helm, release: str) -> None:
    for manifest in yaml.safe_load_all(helm.template({}, release=release)):
        assert len(manifest["metadata"]["name"]) <= 63
        assert all(len(value) <= 63 for value in manifest["metadata"]["labels"].values())


# --- every value has an effect

ANOTHER: dict[str, Any] = {
    "nameOverride": "models",
    "fullnameOverride": "models",
    "image.operator.repository": "other/operator",
    "image.operator.tag": "v2",
    "image.server.repository": "other/server",
    "image.server.tag": "v2",
    "image.store.repository": "other/store",
    "image.store.tag": "v2",
    "image.pullPolicy": "Always",
    "imagePullSecrets": [{"name": "pull"}],
    "watchNamespaces": ["team"],
    "crds.install": False,
    "rbac.create": False,
    "rbac.aggregate": False,
    "serviceAccount.create": False,
    "serviceAccount.name": "identity",
    "serviceAccount.annotations": {"a": "b"},
    "store.enabled": False,
    "store.memoryMiB": 32,
    "store.storage.className": "fast",
    "store.storage.size": "1Gi",
    "store.existingSecret": "other",
    "operator.replicas": 3,
    "operator.logLevel": "debug",
    "operator.resync": 5,
    "operator.resources.requests": {"cpu": 2},
    "operator.resources.limits": {"memory": "2Gi"},
    "operator.podAnnotations": {"a": "b"},
    "operator.podLabels": {"a": "b"},
    "operator.nodeSelector": {"a": "b"},
    "operator.tolerations": [{"operator": "Exists"}],
    "operator.affinity": {"podAffinity": {}},
    "operator.priorityClassName": "high",
    "operator.verificationSecret": "other",
}


def leaves(schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, field in schema["properties"].items():
        if "default" in field:
            yield prefix + name
        else:
            yield from leaves(field, f"{prefix}{name}.")


def objects(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[dict[str, Any]]:
    resolved = definitions[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    if resolved["type"] == "object":
        yield resolved
    for inner in [*resolved.get("properties", {}).values(), *([resolved["items"]] if "items" in resolved else [])]:
        yield from objects(inner, definitions)


SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def test_every_value_is_tried() -> None:
    assert list(leaves(SCHEMA)) == list(ANOTHER)


@pytest.mark.parametrize(("path", "value"), ANOTHER.items())
def test_every_value_has_an_effect(helm: Helm, path: str, value: Any) -> None:
    # A generated password would differ by itself.
    given = {
        "store": {"enabled": True, "existingSecret": "given"},
        "operator": {"verificationSecret": "given"},
    }
    assert helm.template(merged(given, nested(path, value))) != helm.template(given)


# --- the schema


def test_the_schema_leaves_no_object_open() -> None:
    open_objects = [each for each in objects(SCHEMA, SCHEMA["definitions"]) if "additionalProperties" not in each]
    # What follows is Kubernetes' own and checked by the API server.
    affinity = SCHEMA["properties"]["operator"]["properties"]["affinity"]["properties"]
    assert open_objects == list(affinity.values())


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"replicas": 2}, "'replicas'"),
        (nested("image.operator.digest", "x"), "'digest'"),
        (nested("image.operator.repository", ""), "/image/operator/repository"),
        (nested("image.server.tag", "a b"), "/image/server/tag"),
        (nested("image.pullPolicy", "Sometimes"), "/image/pullPolicy"),
        ({"imagePullSecrets": ["mirror"]}, "/imagePullSecrets/0"),
        ({"watchNamespaces": "team"}, "/watchNamespaces"),
        ({"watchNamespaces": ["Team"]}, "/watchNamespaces/0"),
        ({"watchNamespaces": ["a", "a"]}, "/watchNamespaces"),
        (nested("crds.install", "yes"), "/crds/install"),
        (nested("serviceAccount.annotations", {"a": 1}), "/serviceAccount/annotations/a"),
        (nested("store.memoryMiB", "1Gi"), "/store/memoryMiB"),
        (nested("store.storage.size", "big"), "/store/storage/size"),
        (nested("operator.replicas", 0), "/operator/replicas"),
        (nested("operator.logLevel", "loud"), "/operator/logLevel"),
        (nested("operator.resync", 601), "/operator/resync"),
        (nested("operator.resync", "30s"), "/operator/resync"),
        (nested("operator.resources.request", {}), "'request'"),
        (nested("operator.tolerations", [{"keys": "a"}]), "'keys'"),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_by_name(helm: Helm, values: Values, named: str) -> None:
    with pytest.raises(HelmError) as refusal:
        helm.template(values)
    assert named in str(refusal.value)


# --- the pod


@pytest.fixture(scope="session")
def pod(helm: Helm) -> dict[str, Any]:
    [deployment] = by_kind(helm.manifests({"watchNamespaces": ["a", "b"]}), "Deployment")
    return copy.deepcopy(deployment["spec"]["template"]["spec"])


SECRET = Path("/etc/onceserve/verification/secret")


def test_the_operator_reads_the_settings_that_the_chart_writes(
    pod: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    [container] = pod["containers"]
    for variable in container["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    settings = Settings()
    assert settings == Settings(
        server_image="onceserve/server:0.1.0",
        verification_secret_file=SECRET,
        lease_namespace="onceserve",
        namespaces=("a", "b"),
    )
    lease = {"lease_namespace", "lease_name"}
    given = {"server_image", "verification_secret_file", *lease, "namespaces", "log_level", "resync"}
    assert settings.model_fields_set == given
    [volume], [mount] = pod["volumes"], container["volumeMounts"]
    assert (volume["name"], Path(mount["mountPath"], volume["secret"]["items"][0]["path"])) == (mount["name"], SECRET)


def test_probes_ask_the_port_that_the_operator_serves(pod: dict[str, Any]) -> None:
    [container] = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    settings = Settings(server_image="any", verification_secret_file=SECRET, lease_namespace="any")
    assert ports == {"health": settings.health_port, "metrics": settings.metrics_port}
    probes = [container[probe]["httpGet"] for probe in ("livenessProbe", "readinessProbe")]
    assert probes == [{"path": "/healthz", "port": "health"}, {"path": "/readyz", "port": "health"}]
