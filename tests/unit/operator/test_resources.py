"""What the fields of a spec become in pods and in the Service."""

from typing import Any

import pytest

from onceserve_operator.api.v1alpha1 import ModelDeploymentSpec
from onceserve_operator.domain import Key, Manifest
from onceserve_operator.kube import kinds
from onceserve_operator.resources import pod, revision
from support.worlds import World

MODEL = {"uri": "https://models.example/a.onnx"}
TLS = {"tls": {"secretName": "certificate"}}
STORE = {"type": "Redis", "urlFrom": {"secretKeyRef": {"name": "store", "key": "url"}}}
SCOPED = {"IDEMPOTENCY_SCOPE": "default/risk"}
MEMORY = {"IDEMPOTENCY_STORE": "memory:", "IDEMPOTENCY_STORE_TYPE": "memory"}
ALWAYS = {
    "ONCESERVE_MODEL_NAME",
    "ONCESERVE_MODEL_VERSION",
    "ONCESERVE_MODEL_URI",
    "ONCESERVE_PORT",
    "ONCESERVE_GRPC_PORT",
    "ONCESERVE_DRAIN_DELAY",
    "ONCESERVE_DRAIN_TIMEOUT",
    "ONCESERVE_POD_NAME",
    "ONCESERVE_VERIFICATION_KEY",
}


def template(**spec: Any) -> Manifest:
    """Return the pod's spec that a spec leads to."""
    read = ModelDeploymentSpec.model_validate({"model": MODEL, **spec})
    found: Manifest = pod.template(Key("default", "risk"), "risk-1", read, "server:1", "key")["spec"]
    return found


def environment(made: Manifest) -> dict[str, Any]:
    """Return the variables of a pod by name: their values, or where those come from."""
    variables = made["containers"][0]["env"]
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in variables}


def test_what_a_spec_leaves_out_is_left_to_the_server() -> None:
    made = template()
    assert set(environment(made)) == ALWAYS
    assert "volumes" not in made
    assert "volumeMounts" not in made["containers"][0]


@pytest.mark.parametrize(
    ("spec", "variables"),
    [
        ({"server": {"threads": 3}}, {"THREADS": "3"}),
        ({"batching": {"maxBatchSize": 1, "maxDelay": "0s"}}, {"MAX_BATCH_SIZE": "1", "MAX_DELAY": "0"}),
        ({"batching": {"maxDelay": "1s5ms"}}, {"MAX_DELAY": "1.005"}),
        (
            {"admission": {"maxConcurrency": 8, "maxQueue": 0, "timeout": "500ms"}},
            {"MAX_CONCURRENCY": "8", "MAX_QUEUE": "0", "TIMEOUT": "0.5"},
        ),
        ({"auth": {"apiKeys": {"secretName": "keys"}}}, {"API_KEYS": "/etc/onceserve/api-keys"}),
        ({"server": TLS}, {"TLS_CERT": "/etc/onceserve/tls/tls.crt", "TLS_KEY": "/etc/onceserve/tls/tls.key"}),
        ({"idempotency": {"mode": "Disabled"}}, {**SCOPED, "IDEMPOTENCY_MODE": "disabled"}),
        ({"idempotency": {"store": {"type": "Memory"}}}, {**SCOPED, **MEMORY}),
        (
            {"idempotency": {"mode": "Required", "store": STORE, "lease": "1m30s", "retention": "1000h"}},
            {
                **SCOPED,
                "IDEMPOTENCY_MODE": "required",
                "IDEMPOTENCY_STORE": {"secretKeyRef": {"name": "store", "key": "url"}},
                "IDEMPOTENCY_STORE_TYPE": "redis",
                "IDEMPOTENCY_LEASE": "90",
                "IDEMPOTENCY_RETENTION": "3600000",
            },
        ),
        (
            {"idempotency": {"store": {"type": "Memory"}, "whenStoreFails": "FailOpen", "onConflict": "Wait"}},
            {
                **SCOPED,
                **MEMORY,
                "IDEMPOTENCY_WHEN_STORE_FAILS": "fail-open",
                "IDEMPOTENCY_ON_CONFLICT": "wait",
            },
        ),
    ],
    ids=str,
)
def test_a_field_becomes_the_variables_that_the_server_reads(spec: dict[str, Any], variables: dict[str, Any]) -> None:
    found = environment(template(**spec))
    assert {name: value for name, value in found.items() if name not in ALWAYS} == {
        f"ONCESERVE_{name}": value for name, value in variables.items()
    }


def test_secrets_are_mounted_whole_so_that_changes_reach_the_server() -> None:
    made = template(server=TLS, auth={"apiKeys": {"secretName": "keys"}})
    assert made["volumes"] == [
        {"name": "api-keys", "secret": {"secretName": "keys"}},
        {"name": "tls", "secret": {"secretName": "certificate"}},
    ]
    assert made["containers"][0]["volumeMounts"] == [
        {"name": "api-keys", "mountPath": "/etc/onceserve/api-keys", "readOnly": True},
        {"name": "tls", "mountPath": "/etc/onceserve/tls", "readOnly": True},
    ]


@pytest.mark.parametrize(("server", "scheme"), [({}, None), (TLS, "HTTPS")])
def test_probes_speak_what_the_server_speaks(server: dict[str, Any], scheme: str | None) -> None:
    container = template(server=server)["containers"][0]
    probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")]
    assert [probe.get("scheme") for probe in probes] == [scheme] * 3


@pytest.mark.parametrize(("timeout", "drain"), [("1s", 30), ("45s", 45), ("90500ms", 91)])
def test_who_may_wait_long_is_drained_long(timeout: str, drain: int) -> None:
    made = template(admission={"timeout": timeout})
    assert environment(made)["ONCESERVE_DRAIN_TIMEOUT"] == str(drain)
    assert made["terminationGracePeriodSeconds"] == 5 + drain + 5


def test_a_person_s_variables_come_last_and_may_refer_to_ours() -> None:
    own = {"name": "OTEL_RESOURCE_ATTRIBUTES", "value": "k8s.pod.name=$(ONCESERVE_POD_NAME)"}
    made = template(server={"env": [own]}, idempotency={"store": STORE})
    assert made["containers"][0]["env"][-1] == own


@pytest.mark.parametrize(
    "change",
    [
        {"batching": {"maxBatchSize": 8}},
        {"admission": {"maxQueue": 8}},
        {"auth": {"apiKeys": {"secretName": "keys"}}},
        {"server": TLS},
        {"idempotency": {"store": STORE}},
    ],
    ids=str,
)
def test_what_pods_see_makes_a_revision(change: dict[str, Any]) -> None:
    before, after = (ModelDeploymentSpec.model_validate({"model": MODEL, **spec}) for spec in ({}, change))
    assert revision.digest(before) != revision.digest(after)


def test_the_service_and_the_url_speak_tls_when_the_pods_that_get_traffic_do() -> None:
    resource = {"apiVersion": "onceserve.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "risk"}}
    world = World({**resource, "spec": {"model": MODEL}})
    first = world.settle().step.target.name
    world.pods(first, ready=1)
    world.settle()
    world.change(server=TLS)
    second = world.settle().step.target.name
    plain = [("http", 80, "http"), ("grpc", 8081, "kubernetes.io/h2c")]
    assert (ports(world), world.resource["status"]["url"]) == (plain, "http://risk.default.svc")
    world.pods(second, ready=1)
    world.settle()
    secure = [("https", 443, "https"), ("grpc", 8081, "https")]
    assert (ports(world), world.resource["status"]["url"]) == (secure, "https://risk.default.svc")


def ports(world: World) -> list[tuple[str, int, str]]:
    [service] = world.cache.owned(kinds.SERVICE, world.key)
    return [(each["name"], each["port"], each["appProtocol"]) for each in service["spec"]["ports"]]
