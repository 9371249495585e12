"""Fifty ModelDeployments that are broken in every way, beside one that is not."""

import json
import re
import statistics
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from devcluster.cluster import Cluster
from e2e.conftest import SYSTEM
from support.audit import Answers
from support.operators import Operators
from support.served import Served, serving
from support.waiting import eventually

NAMESPACE = "e2e-neighbours"
MODEL = {"uri": "configmap://breast-cancer/model.onnx"}
BROKEN: dict[str, tuple[int, dict[str, Any]]] = {
    # Two cores that are three nodes start few pods at a time.
    "missing-model": (4, {"model": {"uri": "configmap://nowhere/model.onnx"}}),
    "missing-image": (4, {"model": MODEL, "server": {"image": "127.0.0.1:9/none:1"}}),
    "unnamable-image": (4, {"model": MODEL, "server": {"image": "NOT AN IMAGE"}}),
    "missing-account": (12, {"model": MODEL, "server": {"serviceAccountName": "nobody"}}),
    "homeless": (13, {"model": MODEL, "server": {"nodeSelector": {"pool": "none"}}}),
    # Somebody else has a Service of this name.
    "name-taken": (13, {"model": MODEL, "replicas": 0}),
}
REASONS = {"NotFound", "ImagePullFailed", "ReplicaFailure", "Unschedulable", "NameTaken"}
CHANGES = 5
RUSH = 20.0
"""Seconds that a change may wait for its turn while fifty are created at once."""
PASSES, WRITES = 5.0, 5.0
"""A second, for fifty that are broken: each is looked at when something happens to it, and once a minute."""
QUIET = 20.0


@pytest.fixture(scope="module")
def good(installed: Cluster) -> Iterator[Served]:
    """The example in a namespace of its own."""
    with serving(installed, NAMESPACE) as example:
        yield example


_numbers = count(1)


def changed(good: Served) -> float:
    """Change what is served already; return after how many seconds its Deployment has it."""
    answers = Answers(good.cluster)
    good.patch({"rollout": {"progressDeadline": f"{600 + next(_numbers)}s"}})
    return answers.seconds(NAMESPACE, good.name)


def created(good: Served) -> float:
    """Make a further one, without pods; return after how many seconds its Deployment is there."""
    answers, name = Answers(good.cluster), f"further-{next(_numbers)}"
    good.apply(name, {"replicas": 0, "model": MODEL})
    return answers.seconds(NAMESPACE, name)


def measured(good: Served) -> dict[str, list[float]]:
    return {
        "a change": [changed(good) for _ in range(CHANGES)],
        "a creation": [created(good) for _ in range(CHANGES)],
    }


def break_things(good: Served) -> list[str]:
    """Apply all that are broken at once; return their names."""
    specs = {f"{kind}-{each}": spec for kind, (number, spec) in BROKEN.items() for each in range(number)}
    items = [
        *(manifest("v1", "Service", name, {"ports": [{"port": 80}]}) for name in specs if name.startswith("name-")),
        *(manifest("onceserve.dev/v1alpha1", "ModelDeployment", name, spec) for name, spec in specs.items()),
    ]
    good.kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    return list(specs)


def manifest(version: str, kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def reasons(good: Served) -> dict[str, str]:
    """Return why each is not Ready."""
    ready = {
        each["metadata"]["name"]: condition
        for each in good.get("mdep")["items"]
        for condition in each["status"]["conditions"]
        if condition["type"] == "Ready"
    }
    return {name: condition["reason"] for name, condition in ready.items() if condition["status"] == "False"}


def counted(operators: Operators) -> dict[str, float]:
    """Return what the operator that leads has done so far."""
    name = operators.leader()["metadata"]["name"]
    path = f"/api/v1/namespaces/{SYSTEM}/pods/{name}:9090/proxy/metrics"
    metrics = operators.cluster.kubectl("get", "--raw", path)

    def total(pattern: str) -> float:
        return sum(map(float, re.findall(rf"^onceserve_operator_{pattern} (\S+)$", metrics, re.MULTILINE)))

    writes = total(r'api_requests_total\{.*verb="(?:patch|create|delete)"\}')
    return {"passes": total(r"reconcile_total\{.*\}"), "writes": writes}


def test_fifty_that_are_broken_delay_no_other(good: Served) -> None:
    operators = Operators(good.cluster, SYSTEM)
    alone = measured(good)
    names = break_things(good)
    assert len(names) == 50
    rush = changed(good)
    eventually(lambda: reasons(good).keys() >= set(names), "each says why it is not Ready")
    eventually(lambda: set(reasons(good).values()) == REASONS, "the reasons are right")
    beside = measured(good)
    for what, seconds in alone.items():
        usual, now = statistics.median(seconds), statistics.median(beside[what])
        print(f"{what}: alone {usual:.2f} s, beside them {now:.2f} s, {max(beside[what]):.2f} s at most")
        assert now <= min(2, 3 * usual + 1)
    print(f"a change while they are created: {rush:.2f} s")
    assert rush <= RUSH
    before, since = counted(operators), time.monotonic()
    time.sleep(QUIET)
    after, passed = counted(operators), time.monotonic() - since
    rates = {what: (after[what] - before[what]) / passed for what in before}
    print(f"a second: {rates['passes']:.1f} passes, {rates['writes']:.1f} writes")
    assert rates["passes"] <= PASSES
    assert rates["writes"] <= WRITES
