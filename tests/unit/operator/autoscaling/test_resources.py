from typing import Any

import pytest

from onceserve_operator.kube import autoscalers, kinds
from onceserve_operator.resources import revision
from support.worlds import World

SPEC = {"replicas": 2, "model": {"uri": "https://models.example/a.onnx"}}
CPU = {"maxReplicas": 10, "metric": "CPU", "target": "80%"}
CONCURRENCY = CPU | {"metric": "Concurrency", "target": "8"}


def world(**spec: Any) -> World:
    head = {"apiVersion": "onceserve.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "risk"}}
    made = World({**head, "spec": {**SPEC, **spec}})
    made.roll_out()
    return made


def autoscaler(made: World) -> dict[str, Any] | None:
    return made.cache.get(kinds.AUTOSCALER, "default", "risk")


@pytest.mark.parametrize(("metric", "resource"), [("CPU", "cpu"), ("Memory", "memory")])
def test_what_the_kubelet_measures_is_left_to_a_horizontal_pod_autoscaler(metric: str, resource: str) -> None:
    made = autoscaler(world(autoscaling=CPU | {"metric": metric, "minReplicas": 3}))
    assert made is not None
    measured = {"name": resource, "container": "server", "target": {"type": "Utilization", "averageUtilization": 80}}
    assert made["spec"] == {
        "scaleTargetRef": {"apiVersion": "onceserve.dev/v1alpha1", "kind": "ModelDeployment", "name": "risk"},
        "minReplicas": 3,
        "maxReplicas": 10,
        "metrics": [{"type": "ContainerResource", "containerResource": measured}],
    }


def test_there_is_one_only_where_it_decides() -> None:
    made = world(autoscaling=CPU)
    assert autoscaler(made)
    made.change(autoscaling=CONCURRENCY)
    made.settle()
    assert autoscaler(made) is None
    assert autoscaler(world()) is None


def test_autoscaling_makes_no_new_revision() -> None:
    made = world()
    before = made.planned().step.target.name
    made.change(autoscaling=CONCURRENCY)
    assert made.settle().step.target.name == before
    assert "autoscaling" not in revision._SEEN_BY_PODS


def told(**conditions: tuple[str, str]) -> dict[str, Any]:
    listed = [{"type": kind, "status": status, "reason": reason} for kind, (status, reason) in conditions.items()]
    return {"status": {"conditions": listed}}


@pytest.mark.parametrize(
    ("live", "active", "reason"),
    [
        ({}, None, "Pending"),
        (
            told(AbleToScale=("True", "ReadyForNewScale"), ScalingActive=("True", "ValidMetricFound")),
            True,
            "ValidMetricFound",
        ),
        (
            told(
                AbleToScale=("True", "SucceededGetScale"), ScalingActive=("False", "FailedGetContainerResourceMetric")
            ),
            False,
            "FailedGetContainerResourceMetric",
        ),
        (told(AbleToScale=("False", "FailedGetScale")), False, "FailedGetScale"),
        (told(ScalingActive=("Unknown", "Whatever")), None, "Whatever"),
    ],
)
def test_its_conditions_are_mirrored(live: dict[str, Any], active: bool | None, reason: str) -> None:
    scaling = autoscalers.read(live)
    assert (scaling.active, scaling.reason) == (active, reason)


def test_the_condition_says_who_suspended_it_and_nothing_where_there_is_none() -> None:
    made = world(autoscaling=CONCURRENCY)
    assert made.condition("ScalingActive")["status"] == "Unknown"
    made.change(replicas=0)
    made.settle()
    assert (made.condition("ScalingActive")["status"], made.condition("ScalingActive")["reason"]) == (
        "False",
        "ScaledToZero",
    )
    assert "ScalingActive" not in {each["type"] for each in world().resource["status"]["conditions"]}
