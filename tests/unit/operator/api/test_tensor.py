from typing import Any

import pytest

from onceserve_operator import plan
from onceserve_operator.api.v1alpha1 import ModelDeploymentSpec
from onceserve_operator.errors import InvalidSpecError
from onceserve_operator.resources import revision
from support.worlds import World


def read(data: Any) -> ModelDeploymentSpec:
    """Return the spec of a resource with a golden request of this data."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "data": data}
    spec = {
        "model": {"uri": "https://models.example/a.onnx"},
        "rollout": {"verification": {"requests": [{"inputs": [tensor]}]}},
    }
    manifest = {"apiVersion": "onceserve.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "risk"}}
    return plan.read(World({**manifest, "spec": spec}).observed())[0]


def nested(depth: int) -> Any:
    data: Any = 1
    for _ in range(depth):
        data = [data]
    return data


@pytest.mark.parametrize("data", [[], [[], []], [1, [2.5, None], "x", [[True]]], nested(16)])
def test_data_is_flat_or_nested(data: Any) -> None:
    spec = read(data)
    assert spec.rollout.verification.requests[0].inputs[0].data == data
    assert revision.digest(spec)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (nested(17), "lists are nested more than 16 deep"),
        (nested(300), "lists are nested more than 16 deep"),
        ([1, nested(400)], "lists are nested more than 16 deep"),
        ([{"a": 1}], "holds an object, expected are numbers"),
        ([1, [[2, {}]]], "holds an object, expected are numbers"),
    ],
)
def test_data_of_no_tensor_is_refused_with_the_fields_name(data: Any, words: str) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        read(data)
    assert str(caught.value).startswith(f"spec.rollout.verification.requests.0.inputs.0.data: Value error, {words}")
