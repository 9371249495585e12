from onceserve_contract.termination import Failure, FailureReason
from onceserve_operator import rollout
from onceserve_operator.kube import kinds
from support.worlds import World

MODEL = {"uri": "https://models.example/a.onnx"}
RESOURCE = {
    "apiVersion": "onceserve.dev/v1alpha1",
    "kind": "ModelDeployment",
    "metadata": {"name": "risk"},
    "spec": {"replicas": 3, "model": MODEL},
}


def running() -> tuple[World, str]:
    """Return a world in which the first revision serves with 3 pods, and the name of it."""
    world = World(RESOURCE)
    first = world.reconcile().step.target.name
    world.pods(first, ready=3)
    world.reconcile()
    return world, first


def test_the_first_revision_gets_traffic_at_once() -> None:
    world, first = running()
    assert world.service_revision() == first
    assert world.replicas() == {first: 3}
    assert world.planned().step.phase == rollout.STABLE


def test_the_old_revision_keeps_traffic_and_pods_until_the_new_one_has_all_pods_ready() -> None:
    world, first = running()
    world.change(model={"uri": "https://models.example/b.onnx"})
    second = world.reconcile().step.target.name
    for ready in range(3):
        world.pods(second, ready=ready, starting=3 - ready)
        step = world.reconcile().step
        assert step.phase == rollout.PREPARING
        assert world.service_revision() == first
        assert world.replicas() == {first: 3, second: 3}
    world.pods(second, ready=3)
    world.reconcile()
    assert world.service_revision() == second
    assert world.replicas() == {first: 0, second: 3}


def test_a_superseded_revision_never_gets_traffic() -> None:
    world, first = running()
    world.change(model={"uri": "https://models.example/b.onnx"})
    second = world.reconcile().step.target.name
    world.pods(second, starting=3)
    world.change(model={"uri": "https://models.example/c.onnx"})
    third = world.reconcile().step.target.name
    assert world.replicas() == {first: 3, second: 0, third: 3}
    world.pods(second, ready=3)
    world.reconcile()
    assert world.service_revision() == first
    world.pods(third, ready=3)
    world.reconcile()
    assert world.service_revision() == third


def test_going_back_in_mid_rollout_needs_no_new_pod() -> None:
    world, first = running()
    world.change(model={"uri": "https://models.example/b.onnx"})
    second = world.reconcile().step.target.name
    world.change(model=MODEL)
    step = world.reconcile().step
    assert (step.phase, step.target.name) == (rollout.STABLE, first)
    assert world.replicas() == {first: 3, second: 0}


def test_going_back_later_uses_the_stored_revision() -> None:
    world, first = running()
    world.change(model={"uri": "https://models.example/b.onnx"})
    second = world.reconcile().step.target.name
    world.pods(second, ready=3)
    world.pods(first)
    world.reconcile()
    world.change(model=MODEL)
    assert world.reconcile().step.target.name == first
    assert world.replicas() == {first: 3, second: 3}


def test_a_revision_that_fails_gets_no_traffic() -> None:
    world, first = running()
    world.change(model={"uri": "https://models.example/missing.onnx"})
    second = world.reconcile().step.target.name
    world.pods(second, ready=2, failed=[Failure(FailureReason.NOT_FOUND, "missing")])
    world.reconcile()
    assert world.service_revision() == first
    assert world.condition("Available")["status"] == "True"


def test_a_pod_that_leaves_is_not_counted() -> None:
    world, first = running()
    world.change(replicas=1)
    world.reconcile()
    leaving = world.cache.owned(kinds.POD, world.key)[0]
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert world.observed().ready_pods(first) == 2


def test_scaling_makes_no_revision_and_reaches_both_in_mid_rollout() -> None:
    world, first = running()
    world.change(model={"uri": "https://models.example/b.onnx"})
    second = world.reconcile().step.target.name
    world.change(replicas=5)
    assert world.reconcile().step.target.name == second
    assert world.replicas() == {first: 5, second: 5}


def test_history_is_kept_up_to_its_limit_newest_first() -> None:
    world, _ = running()
    made = []
    for letter in "bcde":
        world.change(model={"uri": f"https://models.example/{letter}.onnx"}, rollout={"revisionHistoryLimit": 2})
        revision = world.reconcile().step.target.name
        made.append(revision)
        world.pods(revision, ready=3)
        world.reconcile()
    assert set(world.replicas()) == set(made[1:])
    assert world.replicas()[made[-1]] == 3


def test_an_operator_of_another_release_changes_no_pod() -> None:
    world, first = running()
    before = world.planned().children
    world.image = "onceserve/server:2.0.0"
    after = world.planned()
    assert after.step.target.name == first
    assert after.children == before


def test_a_new_revision_has_the_new_release_s_image() -> None:
    world, _ = running()
    world.image = "onceserve/server:2.0.0"
    world.change(model={"uri": "https://models.example/b.onnx"})
    assert world.reconcile().step.target.image == "onceserve/server:2.0.0"
