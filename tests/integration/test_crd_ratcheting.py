"""An object that an older release accepted: our definition lets it live, be patched and be deleted."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from devcluster.wait import wait_until
from onceserve_operator.api.v1alpha1 import PLURAL, VERSION
from support.api_server import Answer, Api
from support.modeldeployments import Object, collection, condition, deployment

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
OLD_GROUP = "ratchet.example.com"
OLD_NAME = "r" * 60
DOOMED_NAME = "d" * 60
OLD_SPEC = {
    "replicas": 5000,
    "model": {"uri": "ftp://models.example/risk.onnx", "sha256": "none"},
    "server": {"env": [{"name": "ONCESERVE_PORT", "value": "1"}], "tolerations": [{"value": "x"}]},
    "batching": {"maxBatchSize": 1, "maxDelay": "2h"},
    "admission": {"timeout": "0s"},
    "auth": {"apiKeys": {"secretName": "Not A Name"}},
    "idempotency": {"mode": "Sometimes", "store": {"type": "Redis"}, "lease": "1h", "retention": "1h"},
    "rollout": {"progressDeadline": "0s"},
}
LOOSE_KEYS = {"x-kubernetes-validations", "pattern", "maximum", "enum", "minLength", "maxLength"}


def of_group(definition: Object, group: str) -> Object:
    renamed = copy.deepcopy(definition)
    renamed["metadata"]["name"] = f"{PLURAL}.{group}"
    renamed["spec"]["group"] = group
    renamed["spec"]["names"] |= {"shortNames": [], "categories": []}
    return renamed


def loosened(schema: Any) -> Any:
    if isinstance(schema, list):
        return [loosened(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: loosened(value) for key, value in schema.items() if key not in LOOSE_KEYS}


@pytest.fixture(scope="module")
def strict_again(api: Api, definition: Object) -> Iterator[str]:
    """The path of objects that were made under a definition without any constraint, before it was replaced by ours."""
    strict = of_group(definition, OLD_GROUP)
    path = f"{DEFINITIONS}/{strict['metadata']['name']}"
    api.apply(path, loosened(strict), "test")
    assert wait_until(lambda: all(old_create(api, name).status in (201, 409) for name in (OLD_NAME, DOOMED_NAME)), 20)
    api.apply(path, strict, "test")
    assert wait_until(lambda: old_create(api, "probe", "?dryRun=All").status == 422, 20)
    yield collection("default", OLD_GROUP)
    api.delete(path)


def old_create(api: Api, name: str, query: str = "") -> Answer:
    made = deployment(OLD_SPEC, name) | {"apiVersion": f"{OLD_GROUP}/{VERSION}"}
    return api.request("POST", f"{collection('default', OLD_GROUP)}{query}", made)


@pytest.mark.parametrize(
    "patch",
    [
        {"metadata": {"labels": {"a": "b"}}},
        {"spec": {"replicas": 3}},
        {"spec": {"batching": {"maxBatchSize": 2}, "admission": {"maxQueue": 10}}},
        {"spec": {"server": {"threads": 2, "resources": {"limits": {"cpu": "1"}}}}},
        {"spec": {"availability": {"maxUnavailable": "10%"}}},
    ],
    ids=str,
)
def test_a_former_object_can_be_patched_in_other_fields(api: Api, strict_again: str, patch: Object) -> None:
    answer = api.merge(f"{strict_again}/{OLD_NAME}", patch)
    assert answer.accepted, answer.body


def test_a_former_object_can_be_scaled(api: Api, strict_again: str) -> None:
    assert api.merge(f"{strict_again}/{OLD_NAME}/scale", {"spec": {"replicas": 4}}).accepted


def test_a_former_object_can_get_a_status(api: Api, strict_again: str) -> None:
    status = {"status": {"conditions": [condition("SpecAccepted", "False")]}}
    assert api.merge(f"{strict_again}/{OLD_NAME}/status", status).accepted


def test_a_former_object_cannot_be_made_wrong_anew(api: Api, strict_again: str) -> None:
    answer = api.merge(f"{strict_again}/{OLD_NAME}", {"spec": {"model": {"uri": "ftp://elsewhere"}}})
    assert "spec.model.uri" in answer.causes


def test_a_former_object_can_be_deleted(api: Api, strict_again: str) -> None:
    assert api.delete(f"{strict_again}/{DOOMED_NAME}").accepted
    assert wait_until(lambda: api.get(f"{strict_again}/{DOOMED_NAME}").status == 404, 5)
