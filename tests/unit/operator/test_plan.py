from typing import Any

import pytest

from onceserve_operator import plan
from onceserve_operator.domain import Manifest, Problem, Verdict
from onceserve_operator.errors import InvalidSpecError
from onceserve_operator.kube import kinds
from support.worlds import DIGEST, World

WRONG = Verdict(DIGEST, Problem("WrongAnswer", "wrong", permanent=True))


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


def changed(**spec: Any) -> tuple[World, str, str]:
    """Return a world in which one revision serves and another is wanted, with their names."""
    resource = {"apiVersion": "onceserve.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "risk"}}
    model = {"uri": "https://models.example/a.onnx", "sha256": DIGEST}
    world = World({**resource, "spec": {"replicas": 3, "model": model, **spec}})
    first = world.roll_out().step.target.name
    world.change(model={"uri": "https://models.example/b.onnx"})
    return world, first, world.settle().step.target.name


def child(world: World, kind: str, name: str) -> Manifest:
    """Return what the operator would write."""
    [found] = (each for each in world.planned().children if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


@pytest.mark.parametrize("phase", ["Preparing", "Shifting", "Aborted", "Stable"])
def test_a_revision_whose_record_is_lost_is_made_anew_from_what_runs(phase: str) -> None:
    world, first, second = changed()
    if phase == "Aborted":
        world.verdicts[second] = WRONG
    if phase == "Shifting":
        world.pods(second, ready=1)
        world.settle()
    if phase in {"Aborted", "Stable"}:
        world.roll_out()
    assert world.resource["status"]["rollout"]["phase"] == phase
    # The image of another release would be another template, and other pods.
    world.image = "onceserve/server:2.0.0"
    before, replicas = world.planned().children, world.replicas()
    for name in (first, second):
        record = child(world, "ControllerRevision", name)
        world.lose(kinds.CONTROLLER_REVISION, name)
        deployed = [each for each in world.planned().children if each["kind"] != "ControllerRevision"]
        assert deployed == [each for each in before if each["kind"] != "ControllerRevision"]
        assert child(world, "ControllerRevision", name)["data"] == record["data"]
    stable = world.resource["status"]["stableRevision"]
    world.settle()
    assert (world.replicas(), world.resource["status"]["stableRevision"]) == (replicas, stable)


def test_a_former_revision_whose_record_is_lost_stays_within_the_history() -> None:
    world, first, second = changed(rollout={"revisionHistoryLimit": 1})
    world.roll_out()
    world.lose(kinds.CONTROLLER_REVISION, first)
    world.settle()
    assert world.cache.get(kinds.CONTROLLER_REVISION, "default", first) is not None
    world.change(rollout={"revisionHistoryLimit": 0})
    world.lose(kinds.CONTROLLER_REVISION, first)
    world.settle()
    assert world.replicas() == {second: 3}
