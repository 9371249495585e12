import pytest

from onceserve_contract.termination import Failure, FailureReason
from onceserve_operator import rollout
from onceserve_operator.kube import kinds
from onceserve_operator.kube.kinds import Kind
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
    assert world.traffic() == Traffic(first)
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
        assert world.traffic() == Traffic(first)
        assert world.replicas() == {first: 3, second: 3}
    world.pods(second, ready=3)
    assert world.reconcile().step.phase == rollout.SWITCHING
    assert world.traffic() == Traffic(second)
    assert world.replicas() == {first: 3, second: 3}
    world.reconcile()
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
    assert world.traffic() == Traffic(first)
    world.pods(third, ready=3)
    world.reconcile()
    assert world.traffic() == Traffic(third)


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
    assert world.traffic() == Traffic(first)
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
        world.settle()
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


def test_a_refused_service_leaves_traffic_with_pods() -> None:
    world, first = running()
    world.change(model={"uri": "https://models.example/b.onnx"}, rollout={"revisionHistoryLimit": 0})
    second = world.reconcile().step.target.name
    world.pods(second, ready=3)
    for _ in range(3):
        world.reconcile(refused_kinds={"Service"})
        assert world.traffic() == Traffic(first)
        assert world.replicas() == {first: 3, second: 3}


@pytest.mark.parametrize("lost", [kinds.SERVICE, kinds.CONTROLLER_REVISION])
def test_losing_a_child_in_mid_rollout_gives_an_unready_revision_no_traffic(lost: Kind) -> None:
    world, first = running()
    world.change(model={"uri": "https://models.example/b.onnx"})
    second = world.reconcile().step.target.name
    world.pods(second, failed=[Failure(FailureReason.NOT_FOUND, "missing")] * 3)
    name = first if lost == kinds.CONTROLLER_REVISION else "risk"
    world.lose(lost, name)
    world.settle()
    if lost == kinds.SERVICE:
        assert world.traffic() == Traffic(first)
    assert world.condition("Ready")["status"] == "False"


def test_an_old_revision_without_pods_is_left_for_the_first_pod_that_answers() -> None:
    world, first = running()
    world.pods(first, starting=3)
    world.change(model={"uri": "https://models.example/b.onnx"})
    second = world.reconcile().step.target.name
    world.pods(second, ready=1, starting=2)
    world.settle()
    assert world.traffic() == Traffic(second)


def test_history_keeps_what_served_last_also_after_going_back() -> None:
    world, first = running()
    made = [first]
    for uri in ("b", "a", "d"):
        world.change(model={"uri": f"https://models.example/{uri}.onnx"}, rollout={"revisionHistoryLimit": 1})
        revision = world.reconcile().step.target.name
        world.pods(revision, ready=3)
        world.settle()
        made.append(revision)
    assert made[2] == first
    assert set(world.replicas()) == {first, made[3]}


def test_the_service_account_stays_while_a_revision_with_pods_needs_it() -> None:
    world, _ = running()
    world.change(server={"serviceAccountName": "own"})
    second = world.settle().step.target.name
    assert world.cache.owned(kinds.SERVICE_ACCOUNT, world.key)
    world.pods(second, ready=3)
    world.settle()
    assert not world.cache.owned(kinds.SERVICE_ACCOUNT, world.key)


def test_the_disruption_budget_protects_the_revision_that_serves() -> None:
    world, first = running()
    world.change(model={"uri": "https://models.example/b.onnx"})
    second = world.settle().step.target.name
    assert budgeted(world) == first
    world.pods(second, ready=3)
    world.settle()
    assert budgeted(world) == second


def budgeted(world: World) -> str:
    [budget] = world.cache.owned(kinds.DISRUPTION_BUDGET, world.key)
    revision: str = budget["spec"]["selector"]["matchLabels"]["onceserve.dev/revision"]
    return revision
