import pytest

from onceserve_operator import plan
from onceserve_operator.errors import InvalidSpecError
from support.worlds import World


def test_a_spec_of_another_release_is_refused_field_by_field() -> None:
    spec = {"replicas": 5000, "flavour": "sweet", "model": {"uri": "https://models.example/a.onnx", "sha256": "short"}}
    world = World(
        {"apiVersion": "onceserve.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "risk"}, "spec": spec}
    )
    with pytest.raises(InvalidSpecError) as caught:
        plan.read(world.observed())
    assert str(caught.value).split("; ") == [
        "spec.replicas: Input should be less than or equal to 1000",
        "spec.model.sha256: String should match pattern '^[0-9a-f]{64}$'",
    ]
