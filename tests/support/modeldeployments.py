"""ModelDeployments as people write them."""

from collections.abc import Iterator
from typing import Any

from onceserve_operator.api.schema import openapi_schema
from onceserve_operator.api.v1alpha1 import API_VERSION, GROUP, KIND, PLURAL, VERSION

Object = dict[str, Any]

SCHEMA = openapi_schema()
SPEC_SCHEMA: Object = SCHEMA["properties"]["spec"]
MINIMAL: Object = {"model": {"uri": "https://models.example/risk.onnx"}}
# Every field of the spec once, so that every constraint has a place where it can be broken.
COMPLETE: Object = {
    "replicas": 2,
    "model": {"uri": "https://models.example/risk.onnx", "sha256": "ab" * 32, "name": "risk"},
    "server": {
        "image": "onceserve/server:0.1.0",
        "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": 1, "memory": "2Gi"}},
        "threads": 2,
        "nodeSelector": {"disktype": "ssd"},
        "tolerations": [
            {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoExecute", "tolerationSeconds": 30}
        ],
        "priorityClassName": "high",
        "serviceAccountName": "risk",
        "imagePullSecrets": [{"name": "pull"}],
        "env": [
            {"name": "PLAIN", "value": "1"},
            {"name": "FROM_SECRET", "valueFrom": {"secretKeyRef": {"name": "secret", "key": "a.key"}}},
            {"name": "FROM_MAP", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "a_key"}}},
        ],
        "tls": {"secretName": "certificate"},
    },
    "batching": {"maxBatchSize": 64, "maxDelay": "5ms"},
    "admission": {"maxConcurrency": 32, "maxQueue": 128, "timeout": "1m30s"},
    "auth": {"apiKeys": {"secretName": "keys"}},
    "idempotency": {
        "mode": "Required",
        "store": {"type": "Redis", "urlFrom": {"secretKeyRef": {"name": "store", "key": "url"}}},
        "lease": "1m",
        "retention": "48h",
        "whenStoreFails": "FailOpen",
        "onConflict": "Wait",
    },
    "autoscaling": {"minReplicas": 2, "maxReplicas": 10, "metric": "QueueTime", "target": "1s500ms"},
    "gateway": {"name": "public", "namespace": "gateways", "sectionName": "https", "hostnames": ["risk.example"]},
    "rollout": {
        "strategy": "Canary",
        "rollingUpdate": {"maxSurge": "50%", "maxUnavailable": 1},
        "canary": {"steps": [{"weight": 10}, {"pause": {"duration": "2m"}}]},
        "verification": {
            "requests": [
                {
                    "inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 2], "data": [[0.5, None]]}],
                    "expected": [{"name": "label", "datatype": "BYTES", "shape": [1], "data": ["fraud"]}],
                    "tolerance": "0.00001",
                }
            ],
            "metrics": [{"name": "LatencyP99", "max": "50ms", "maxOfStable": "150%", "minSamples": 100}],
            "prometheus": {
                "url": "http://prometheus.monitoring:9090",
                "queries": [{"name": "refusals", "query": "sum(refused)", "max": "0.5"}],
            },
        },
        "progressDeadline": "1h30m",
        "revisionHistoryLimit": 3,
    },
    "availability": {"maxUnavailable": "25%", "spread": "Required"},
}
# What excludes fields of the above.
COMPLETE_BLUE_GREEN: Object = MINIMAL | {
    "rollout": {"strategy": "BlueGreen", "blueGreen": {"promotion": "Manual", "scaleDownDelay": "1m"}}
}


def collection(namespace: str, group: str = GROUP) -> str:
    return f"/apis/{group}/{VERSION}/namespaces/{namespace}/{PLURAL}"


def deployment(spec: Object, name: str = "risk") -> Object:
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}


def merged(below: Object, above: Object) -> Object:
    both = below.keys() & above.keys()
    inner = {key: merged(below[key], above[key]) for key in both if isinstance(above[key], dict)}
    return {**below, **above, **inner}


def condition(kind: str, status: str) -> Object:
    return {
        "type": kind,
        "status": status,
        "reason": "Because",
        "message": "It is so",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "observedGeneration": 1,
    }


def fields_of(schema: Object, path: str = "") -> Iterator[str]:
    inner = schema.get("items", schema)
    for name, given in inner.get("properties", {}).items():
        yield f"{path}.{name}"
        yield from fields_of(given, f"{path}.{name}")
