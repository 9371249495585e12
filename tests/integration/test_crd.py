"""The definition on a real API server: what it fills in, its subresources, and how kubectl shows it."""

import re

import pytest
import yaml

from devcluster.cluster import Cluster
from onceserve_operator.api.v1alpha1 import API_VERSION, GROUP, KIND, ModelDeploymentSpec
from support.api_server import Api
from support.modeldeployments import (
    COMPLETE,
    MINIMAL,
    SPEC_SCHEMA,
    Object,
    collection,
    condition,
    deployment,
    fields_of,
    merged,
)

pytestmark = pytest.mark.usefixtures("definition")


def test_defaults_are_filled_in_at_creation(api: Api, namespace: str) -> None:
    answer = api.create(collection(namespace), deployment(MINIMAL))
    assert answer.body["spec"] == MINIMAL | {
        "replicas": 1,
        "rollout": {"strategy": "RollingUpdate", "progressDeadline": "10m", "revisionHistoryLimit": 5},
        "availability": {"maxUnavailable": 1, "spread": "Preferred"},
    }


def test_defaults_are_those_of_the_types(api: Api, namespace: str) -> None:
    stored = api.create(collection(namespace), deployment(MINIMAL)).body["spec"]
    assert ModelDeploymentSpec.model_validate(stored) == ModelDeploymentSpec.model_validate(MINIMAL)


def test_a_new_object_says_that_no_operator_has_seen_it(api: Api, namespace: str) -> None:
    created = api.create(collection(namespace), deployment(MINIMAL)).body
    read = api.get(f"{collection(namespace)}/risk").body
    assert created["status"] == read["status"]
    conditions = {condition["type"]: condition["status"] for condition in read["status"]["conditions"]}
    assert conditions == {"SpecAccepted": "Unknown", "Ready": "Unknown"}


def test_the_first_status_of_the_operator_replaces_the_initial_one(api: Api, namespace: str) -> None:
    api.create(collection(namespace), deployment(MINIMAL))
    seen = condition("Ready", "False") | {"reason": "Starting", "message": "0 of 1 pods answer"}
    status = {"conditions": [seen, condition("SpecAccepted", "True")], "observedGeneration": 1}
    answer = api.apply(f"{collection(namespace)}/risk/status", partial({"status": status}), "operator")
    assert answer.accepted, answer.body
    by_type = {each["type"]: each for each in answer.body["status"]["conditions"]}
    assert by_type == {"Ready": seen, "SpecAccepted": condition("SpecAccepted", "True")}


def partial(content: Object) -> Object:
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "risk"}, **content}


@pytest.mark.parametrize(
    ("spec", "unknown"),
    [
        (MINIMAL | {"replica": 2}, "spec.replica"),
        (merged(MINIMAL, {"model": {"digest": "x"}}), "spec.model.digest"),
        (merged(MINIMAL, {"server": {"env": [{"name": "A", "val": "1"}]}}), "spec.server.env[0].val"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_unknown_field_is_refused_by_name(api: Api, namespace: str, spec: Object, unknown: str) -> None:
    answer = api.create(collection(namespace), deployment(spec))
    assert answer.status == 400
    assert f'unknown field "{unknown}"' in answer.body["message"]


def test_a_list_entry_is_refused_twice(api: Api, namespace: str) -> None:
    twice = {"server": {"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}}
    answer = api.create(collection(namespace), deployment(merged(MINIMAL, twice)))
    assert "spec.server.env[1]" in answer.causes


def test_two_hands_apply_entries_of_one_list(api: Api, namespace: str) -> None:
    path = f"{collection(namespace)}/risk"
    api.create(collection(namespace), deployment(MINIMAL))
    for name in ("A", "B"):
        api.apply(path, partial({"spec": {"server": {"env": [{"name": name, "value": "1"}]}}}), f"hand-{name.lower()}")
    assert [each["name"] for each in api.get(path).body["spec"]["server"]["env"]] == ["A", "B"]


# --- subresources


def test_replicas_are_read_and_written_through_scale(api: Api, namespace: str) -> None:
    path = f"{collection(namespace)}/risk"
    api.create(collection(namespace), deployment(MINIMAL))
    api.merge(f"{path}/status", {"status": {"replicas": 1, "selector": "onceserve.dev/modeldeployment=risk"}})
    scale = api.get(f"{path}/scale").body
    assert scale["spec"] == {"replicas": 1}
    assert scale["status"] == {"replicas": 1, "selector": "onceserve.dev/modeldeployment=risk"}
    written = api.request("PUT", f"{path}/scale", merged(scale, {"spec": {"replicas": 4}}))
    assert written.accepted
    assert api.get(path).body["spec"]["replicas"] == 4


def test_scale_keeps_to_the_bounds_of_the_spec(api: Api, namespace: str) -> None:
    api.create(collection(namespace), deployment(MINIMAL))
    answer = api.merge(f"{collection(namespace)}/risk/scale", {"spec": {"replicas": 1001}})
    assert answer.status == 422
    assert "spec.replicas" in answer.causes


def test_the_spec_cannot_be_written_through_status(api: Api, namespace: str) -> None:
    path = f"{collection(namespace)}/risk"
    created = api.create(collection(namespace), deployment(MINIMAL)).body
    both = {"spec": {"replicas": 7}, "status": {"observedGeneration": 1}}
    written = api.merge(f"{path}/status", both).body
    assert (written["spec"], written["metadata"]["generation"]) == (created["spec"], 1)
    assert written["status"]["observedGeneration"] == 1


def test_the_status_cannot_be_written_through_the_object(api: Api, namespace: str) -> None:
    path = f"{collection(namespace)}/risk"
    created = api.create(collection(namespace), deployment(MINIMAL)).body
    written = api.merge(path, {"spec": {"replicas": 7}, "status": {"url": "http://elsewhere"}}).body
    assert (written["status"], written["metadata"]["generation"]) == (created["status"], 2)


# --- kubectl

OPERATOR_STATUS = {
    "readyReplicas": 2,
    "stableRevision": "risk-abc",
    "url": "http://risk.default.svc",
    "rollout": {"phase": "Stable", "message": "-"},
    "conditions": [condition("Ready", "True")],
}


def test_kubectl_shows_the_columns(cluster: Cluster, api: Api, namespace: str) -> None:
    api.create(collection(namespace), deployment(MINIMAL | {"replicas": 3}))
    api.merge(f"{collection(namespace)}/risk/status", {"status": OPERATOR_STATUS})
    header, row = rows(cluster.kubectl("-n", namespace, "get", "mdep"))
    assert header == ["NAME", "READY", "DESIRED", "AVAILABLE", "REVISION", "ROLLOUT", "URL", "AGE"]
    assert row[:-1] == ["risk", "True", "3", "2", "risk-abc", "Stable", "http://risk.default.svc"]


def test_kubectl_shows_why_in_wide_output(cluster: Cluster, api: Api, namespace: str) -> None:
    api.create(collection(namespace), deployment(MINIMAL))
    api.merge(f"{collection(namespace)}/risk/status", {"status": OPERATOR_STATUS})
    header, row = rows(cluster.kubectl("-n", namespace, "get", "mdep", "-o", "wide"))
    assert (header[-2:], row[-2:]) == (["REASON", "MESSAGE"], ["Because", "It is so"])


def rows(table: str) -> list[list[str]]:
    return [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]


def test_kubectl_get_all_includes_it(cluster: Cluster, api: Api, namespace: str) -> None:
    api.create(collection(namespace), deployment(MINIMAL))
    assert cluster.kubectl("-n", namespace, "get", "all", "-o", "name") == f"modeldeployment.{GROUP}/risk\n"


def test_kubectl_applies_client_side_and_finds_nothing_to_do_the_second_time(cluster: Cluster, namespace: str) -> None:
    manifest = yaml.safe_dump(deployment(COMPLETE))
    first, second = (
        cluster.kubectl("-n", namespace, "apply", "--server-side=false", "-f", "-", stdin=manifest) for _ in range(2)
    )
    assert (first.split()[-1], second.split()[-1]) == ("created", "unchanged")


def test_kubectl_explains_every_field_of_the_spec(cluster: Cluster) -> None:
    explained = cluster.kubectl("explain", "mdep.spec", "--recursive")
    assert all(f"{name.rpartition('.')[2]}\t" in explained for name in fields_of(SPEC_SCHEMA))
