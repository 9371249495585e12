"""A ModelDeployment whose first revision serves, and a cluster that is told what to do."""

from typing import Any

from onceserve_operator.domain import Plan
from onceserve_operator.rollout.phases import Phase
from support.worlds import World

RESOURCE: dict[str, Any] = {
    "apiVersion": "onceserve.dev/v1alpha1",
    "kind": "ModelDeployment",
    "metadata": {"name": "risk"},
    "spec": {"replicas": 3, "model": {"uri": "https://models.example/a.onnx"}},
}


def running(**spec: Any) -> tuple[World, str]:
    """Return a world in which the first revision serves, and the name of it."""
    world = World({**RESOURCE, "spec": {**RESOURCE["spec"], **spec}})
    first = world.settle().step.target.name
    world.pods(first, ready=spec.get("replicas", 3))
    assert world.settle().step.phase == Phase.STABLE
    return world, first


def changed(world: World, letter: str = "b") -> str:
    """Have the spec ask for another revision; return its name."""
    world.change(model={"uri": f"https://models.example/{letter}.onnx"})
    return world.settle().step.target.name


def obeyed(world: World) -> Plan:
    """Settle, with every pod that is asked for ready at once, until nothing moves."""
    planned = world.settle()
    while True:
        for revision, number in world.replicas().items():
            world.pods(revision, ready=number)
        before, planned = planned, world.settle()
        if (before.step.replicas, before.step.traffic, before.step.phase) == (
            planned.step.replicas,
            planned.step.traffic,
            planned.step.phase,
        ):
            return planned
