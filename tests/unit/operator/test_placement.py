"""Where pods go, and how long they stay with a node that is lost."""

from typing import Any

import pytest

from onceserve_operator.api.v1alpha1 import ModelDeploymentSpec
from onceserve_operator.domain import Key, Manifest
from onceserve_operator.resources import pod

NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"
MODEL = {"uri": "https://models.example/a.onnx"}


def template(**spec: Any) -> Manifest:
    """Return the pod's spec that a spec leads to."""
    read = ModelDeploymentSpec.model_validate({"model": MODEL, **spec})
    found: Manifest = pod.template(Key("default", "risk"), "risk-1", read, "server:1", "key")["spec"]
    return found


def tolerated(*given: Manifest) -> dict[str | None, int | None]:
    """Return by taint how many seconds it is tolerated, None for as long as it takes."""
    made = template(server={"tolerations": list(given)})["tolerations"]
    assert made[: len(given)] == list(given)
    return {each.get("key"): each.get("tolerationSeconds") for each in made}


def test_a_lost_node_is_tolerated_for_half_a_minute() -> None:
    assert tolerated() == {NOT_READY: 30, UNREACHABLE: 30}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"key": "gpu", "operator": "Exists"}, {"gpu": None, NOT_READY: 30, UNREACHABLE: 30}),
        (
            {"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5},
            {NOT_READY: 30, UNREACHABLE: 5},
        ),
        ({"key": NOT_READY, "operator": "Exists"}, {NOT_READY: None, UNREACHABLE: 30}),
        ({"operator": "Exists", "effect": "NoExecute"}, {None: None}),
        ({"operator": "Exists"}, {None: None}),
        ({"operator": "Exists", "effect": "NoSchedule"}, {None: None, NOT_READY: 30, UNREACHABLE: 30}),
    ],
    ids=str,
)
def test_whoever_names_its_taints_decides_alone(given: Manifest, expected: dict[str | None, int | None]) -> None:
    assert tolerated(given) == expected


@pytest.mark.parametrize("spread", ["Preferred", "Required"])
def test_a_node_that_is_lost_or_drained_lacks_no_pod(spread: str) -> None:
    [constraint] = template(availability={"spread": spread})["topologySpreadConstraints"]
    assert constraint["nodeTaintsPolicy"] == "Honor"
