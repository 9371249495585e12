"""Every rule of the definition on a real API server: one object that obeys it, one that does not."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from support.api_server import Api
from support.modeldeployments import MINIMAL, SCHEMA, Object, collection, deployment, merged

pytestmark = pytest.mark.usefixtures("definition")


@dataclass(frozen=True)
class RuleCase:
    """For one rule: an object that obeys it, one that does not, and what the API server then says of which field."""

    path: str
    message: str
    good: Object = field(default_factory=dict)
    bad: Object = field(default_factory=dict)
    good_name: str = "risk"
    bad_name: str = "risk"


def _uri(path: str, good: str, bad: str) -> RuleCase:
    return RuleCase("spec.model.uri", path, {"model": {"uri": good}}, {"model": {"uri": bad}})


def _server(path: str, message: str, good: Object, bad: Object) -> RuleCase:
    return RuleCase(f"spec.server.{path}", message, {"server": good}, {"server": bad})


def _toleration(message: str, good: Object, bad: Object) -> RuleCase:
    return _server("tolerations[0]", message, {"tolerations": [good]}, {"tolerations": [bad]})


def _batching(path: str, message: str, good: Object, bad: Object) -> RuleCase:
    return RuleCase(f"spec.batching{path}", message, {"batching": good}, {"batching": bad})


def _admission(message: str, good: str, bad: str) -> RuleCase:
    return RuleCase(
        "spec.admission.timeout", message, {"admission": {"timeout": good}}, {"admission": {"timeout": bad}}
    )


def _idempotency(path: str, message: str, good: Object, bad: Object) -> RuleCase:
    return RuleCase(f"spec.idempotency{path}", message, {"idempotency": good}, {"idempotency": bad})


def _rollout(path: str, message: str, good: Object, bad: Object) -> RuleCase:
    return RuleCase(f"spec.rollout{path}", message, {"rollout": good}, {"rollout": bad})


def _step(path: str, message: str, good: Object, bad: Object) -> RuleCase:
    right, wrong = ({"strategy": "Canary", "canary": {"steps": [step]}} for step in (good, bad))
    return _rollout(f".canary.steps[0]{path}", message, right, wrong)


def _metric(message: str, good: Object, bad: Object) -> RuleCase:
    right, wrong = ({"verification": {"metrics": [metric]}} for metric in (good, bad))
    return _rollout(".verification.metrics[0]", message, right, wrong)


def _autoscaling(message: str, good: Object, bad: Object) -> RuleCase:
    right, wrong = (
        {"autoscaling": {"maxReplicas": 3, "metric": "CPU", "target": "80%"} | fields} for fields in (good, bad)
    )
    return RuleCase("spec.autoscaling", message, right, wrong)


def _target(metric: str, good: str, bad: str) -> RuleCase:
    return _autoscaling(TARGET, {"metric": metric, "target": good}, {"metric": metric, "target": bad})


NUMBER = "must be a number of at least 0, or a percentage such as 25%"
BOUND = 'max must be a share such as "0.01" for ErrorRate, and a duration such as 50ms for a latency'
TARGET = (
    "target must be above 0: a number for Concurrency and RequestsPerSecond, a duration such as 50ms for QueueTime,"
    " a percentage such as 80% for CPU and Memory"
)
STEPS = {"steps": [{"weight": 10}]}
NAME_MESSAGE = (
    "metadata.name must be at most 50 lower-case letters, digits and dashes,"
    " starting with a letter: it names the Service"
)
SECRET = {"secretKeyRef": {"name": "secret", "key": "key"}}
MAP = {"configMapKeyRef": {"name": "map", "key": "key"}}
MEMORY = {"store": {"type": "Memory"}}
REDIS = {"store": {"type": "Redis", "urlFrom": SECRET}}

RULE_CASES = [
    RuleCase("<nil>", NAME_MESSAGE, good_name="r" * 50, bad_name="r" * 51),
    RuleCase("<nil>", NAME_MESSAGE, good_name="risk-2", bad_name="2-risk"),
    RuleCase("<nil>", NAME_MESSAGE, good_name="risk", bad_name="risk.v2"),
    _uri("must start with https://, http://, configmap:// or file:///", "http://models/risk", "ftp://models/risk"),
    _uri(
        "must start with https://, http://, configmap:// or file:///", "file:///models/risk.onnx", "file://models/risk"
    ),
    _uri(
        "a configmap URI must be configmap://NAME/KEY, a ConfigMap in the same namespace",
        "configmap://models/risk.onnx",
        "configmap://models",
    ),
    _uri(
        "an http(s) URI must name a host and carry no user name or password",
        "https://models.example:8443/risk.onnx?version=2",
        "https://user:password@models.example/risk.onnx",
    ),
    _uri(
        "an http(s) URI must name a host and carry no user name or password", "https://models.example", "https:///risk"
    ),
    _uri("a file URI must name a file", "file:///risk.onnx", "file:///"),
    _server(
        "resources",
        "a request must not exceed the limit of the same resource",
        {"resources": {"requests": {"cpu": "500m", "memory": "1000Mi"}, "limits": {"cpu": 1, "memory": "1Gi"}}},
        {"resources": {"requests": {"cpu": "1100m"}, "limits": {"cpu": 1}}},
    ),
    _toleration("without a key, operator must be Exists", {"operator": "Exists"}, {"effect": "NoSchedule"}),
    _toleration(
        "operator Exists takes no value", {"key": "a", "value": "b"}, {"key": "a", "operator": "Exists", "value": "b"}
    ),
    _toleration(
        "tolerationSeconds needs effect NoExecute",
        {"key": "a", "effect": "NoExecute", "tolerationSeconds": 5},
        {"key": "a", "effect": "NoSchedule", "tolerationSeconds": 5},
    ),
    _server(
        "env[0]",
        "value and valueFrom exclude each other",
        {"env": [{"name": "A"}]},
        {"env": [{"name": "A", "value": "1", "valueFrom": SECRET}]},
    ),
    _server(
        "env[0].name",
        "ONCESERVE_ variables belong to the operator; use the named fields",
        {"env": [{"name": "MY_ONCESERVE_PORT", "value": "1"}]},
        {"env": [{"name": "ONCESERVE_PORT", "value": "1"}]},
    ),
    _server(
        "env[0].name",
        "ONCESERVE_ variables belong to the operator; use the named fields",
        {"env": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4318"}]},
        {"env": [{"name": "ONCESERVE_API_KEYS", "value": ""}]},
    ),
    _server(
        "env[0].valueFrom",
        "exactly one of secretKeyRef and configMapKeyRef must be set",
        {"env": [{"name": "A", "valueFrom": MAP}]},
        {"env": [{"name": "A", "valueFrom": SECRET | MAP}]},
    ),
    _server(
        "env[0].valueFrom",
        "exactly one of secretKeyRef and configMapKeyRef must be set",
        {"env": [{"name": "A", "valueFrom": SECRET}]},
        {"env": [{"name": "A", "valueFrom": {}}]},
    ),
    _batching(".maxDelay", "must be at most 60s", {"maxDelay": "1m"}, {"maxDelay": "1m1ms"}),
    _batching(
        "",
        "maxDelay waits for nobody where maxBatchSize is 1",
        {"maxBatchSize": 1, "maxDelay": "0ms"},
        {"maxBatchSize": 1, "maxDelay": "1ms"},
    ),
    _admission("must be longer than 0s", "1ms", "0s"),
    _admission("must be at most 24h", "24h", "24h1s"),
    RuleCase(
        "spec",
        "replicas above 1 need an idempotency.store that they share: Redis or PostgreSQL",
        {"replicas": 2, "idempotency": REDIS},
        {"replicas": 2, "idempotency": MEMORY},
    ),
    RuleCase(
        "spec",
        "autoscaling.maxReplicas above 1 needs an idempotency.store that replicas share: Redis or PostgreSQL",
        {"autoscaling": {"maxReplicas": 1, "metric": "CPU", "target": "80%"}, "idempotency": MEMORY},
        {"autoscaling": {"maxReplicas": 2, "metric": "CPU", "target": "80%"}, "idempotency": MEMORY},
    ),
    _autoscaling("minReplicas must not exceed maxReplicas", {"minReplicas": 3}, {"minReplicas": 4}),
    _target("Concurrency", "8", "8s"),
    _target("Concurrency", "0.5", "0"),
    _target("RequestsPerSecond", "120.5", "80%"),
    _target("QueueTime", "1m500ms", "50"),
    _target("QueueTime", "50ms", "0s"),
    _target("CPU", "80%", "0.8"),
    _target("Memory", "150%", "1000%"),
    _idempotency("", "a store must be named, unless mode is Disabled", {"mode": "Disabled"}, {"mode": "Required"}),
    _idempotency(
        "",
        "with mode Disabled no other field may be set",
        {"mode": "Optional", "lease": "10s", **MEMORY},
        {"mode": "Disabled", "lease": "10s"},
    ),
    _idempotency(
        "",
        "retention must be at least 10 times the lease",
        {"lease": "1500ms", "retention": "15s", **MEMORY},
        {"lease": "1500ms", "retention": "14999ms", **MEMORY},
    ),
    _idempotency(
        "", "retention must be at least 10 times the lease", {"retention": "5m", **REDIS}, {"lease": "3h", **REDIS}
    ),
    _idempotency(".lease", "must be at least 1s", {"lease": "1s", **MEMORY}, {"lease": "999ms", **MEMORY}),
    _idempotency(".lease", "must be at most 1h", {"lease": "1h", **MEMORY}, {"lease": "61m", **MEMORY}),
    _idempotency(
        ".retention",
        "must be at least 10s",
        {"lease": "1s", "retention": "10s", **MEMORY},
        {"lease": "1s", "retention": "9s", **MEMORY},
    ),
    _idempotency(
        ".retention", "must be at most 8784h", {"retention": "8784h", **MEMORY}, {"retention": "8785h", **MEMORY}
    ),
    _idempotency(
        ".store",
        "urlFrom must be set for Redis and PostgreSQL, and not for Memory",
        {"store": {"type": "PostgreSQL", "urlFrom": SECRET}},
        {"store": {"type": "Memory", "urlFrom": SECRET}},
    ),
    _idempotency(
        ".store",
        "urlFrom must be set for Redis and PostgreSQL, and not for Memory",
        MEMORY,
        {"store": {"type": "Redis"}},
    ),
    _rollout(
        "",
        "rollingUpdate acts with strategy RollingUpdate or Canary alone",
        {"rollingUpdate": {"maxSurge": 1}},
        {"strategy": "BlueGreen", "rollingUpdate": {"maxSurge": 1}},
    ),
    _rollout(
        "",
        "canary acts with strategy Canary alone",
        {"strategy": "Canary", "canary": STEPS},
        {"strategy": "BlueGreen", "canary": STEPS},
    ),
    _rollout(
        "",
        "blueGreen acts with strategy BlueGreen alone",
        {"strategy": "BlueGreen", "blueGreen": {"promotion": "Manual"}},
        {"blueGreen": {"promotion": "Manual"}},
    ),
    _rollout("", "strategy Canary needs canary", {"strategy": "Canary", "canary": STEPS}, {"strategy": "Canary"}),
    _rollout(
        ".rollingUpdate",
        "maxSurge and maxUnavailable must not both be 0: nothing could move",
        {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
        {"rollingUpdate": {"maxSurge": "0%"}},
    ),
    _rollout(
        ".rollingUpdate.maxSurge", NUMBER, {"rollingUpdate": {"maxSurge": 1}}, {"rollingUpdate": {"maxSurge": -1}}
    ),
    _rollout(
        ".rollingUpdate.maxUnavailable",
        NUMBER,
        {"rollingUpdate": {"maxUnavailable": 1}},
        {"rollingUpdate": {"maxUnavailable": -1}},
    ),
    _step("", "exactly one of weight and pause must be set", {"pause": {}}, {"weight": 10, "pause": {}}),
    _step("", "exactly one of weight and pause must be set", {"weight": 0}, {}),
    _step(".pause.duration", "must be longer than 0s", {"pause": {"duration": "1s"}}, {"pause": {"duration": "0s"}}),
    _metric("max or maxOfStable must be set", {"name": "ErrorRate", "maxOfStable": "150%"}, {"name": "ErrorRate"}),
    _metric(BOUND, {"name": "ErrorRate", "max": "0.01"}, {"name": "ErrorRate", "max": "10ms"}),
    _metric(BOUND, {"name": "LatencyP99", "max": "50ms"}, {"name": "LatencyP99", "max": "0.05"}),
    RuleCase(
        "spec.rollout.progressDeadline",
        "must be longer than 0s",
        {"rollout": {"progressDeadline": "0h1ms"}},
        {"rollout": {"progressDeadline": "0m0s"}},
    ),
    RuleCase(
        "spec.availability.maxUnavailable",
        NUMBER,
        {"availability": {"maxUnavailable": 0}},
        {"availability": {"maxUnavailable": -1}},
    ),
]


def _case_id(case: RuleCase) -> str:
    return f"{case.path}: {case.message}"


@pytest.mark.parametrize("case", RULE_CASES, ids=_case_id)
def test_a_rule_accepts_what_obeys_it(api: Api, namespace: str, case: RuleCase) -> None:
    answer = api.create(collection(namespace), deployment(merged(MINIMAL, case.good), case.good_name))
    assert answer.accepted, answer.body


@pytest.mark.parametrize("case", RULE_CASES, ids=_case_id)
def test_a_rule_refuses_what_breaks_it_in_the_promised_words(api: Api, namespace: str, case: RuleCase) -> None:
    answer = api.create(collection(namespace), deployment(merged(MINIMAL, case.bad), case.bad_name))
    assert (answer.status, answer.body["reason"]) == (422, "Invalid")
    [message] = answer.causes[case.path]
    assert message.removesuffix(case.message) in {"Invalid value: ", *_with_value(message, case.message)}


def _with_value(message: str, promised: str) -> set[str]:
    """The API server puts the value of a scalar before the words of its rule."""
    given = re.fullmatch(r'Invalid value: ("[^"]*"|-?\d+): ' + re.escape(promised), message)
    return {f"Invalid value: {given[1]}: "} if given else set()


def rules_of(schema: Object, path: str = "") -> Iterator[tuple[str, str]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield path.removeprefix(".") or "<nil>", rule["message"]
    for name, inner in schema.get("properties", {}).items():
        yield from rules_of(inner, f"{path}.{name}")
    for key, suffix in (("items", "[0]"), ("additionalProperties", "{}")):
        if key in schema:
            yield from rules_of(schema[key], f"{path}{suffix}")


def test_every_rule_has_a_case() -> None:
    assert {(case.path, case.message) for case in RULE_CASES} == set(rules_of(SCHEMA))
