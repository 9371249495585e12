"""What a rollout means for the objects of a ModelDeployment: none that is still needed is taken away."""

import pytest

from onceserve_contract.termination import Failure, FailureReason
from onceserve_operator.domain import EVERYBODY, Traffic
from onceserve_operator.kube import kinds
from onceserve_operator.rollout.phases import Phase
from support.worlds import World
from unit.operator.rollout.paths import changed, obeyed, running

MISSING = Failure(FailureReason.NOT_FOUND, "missing")


def test_a_revision_that_fails_gets_no_traffic_and_its_reason_is_told() -> None:
    world, first = running()
    second = changed(world)
    world.pods(second, failed=[MISSING])
    world.settle()
    assert world.traffic() == Traffic(first)
    assert world.condition("Available")["status"] == "True"
    assert "missing" in world.resource["status"]["rollout"]["message"]


def test_a_pod_that_leaves_is_not_counted() -> None:
    world, first = running()
    leaving = world.cache.owned(kinds.POD, world.key)[0]
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert world.observed().ready_pods(first) == 2


def test_scaling_makes_no_revision() -> None:
    world, first = running()
    world.change(replicas=5)
    assert world.settle().step.target.name == first
    assert world.replicas() == {first: 5}


def test_history_is_kept_up_to_its_limit_newest_first() -> None:
    world, _ = running(rollout={"revisionHistoryLimit": 2})
    made = []
    for letter in "bcde":
        made.append(changed(world, letter))
        obeyed(world)
    assert set(world.replicas()) == set(made[1:])
    assert world.replicas()[made[-1]] == 3


def test_history_keeps_what_served_last_also_after_going_back() -> None:
    world, first = running(rollout={"revisionHistoryLimit": 1})
    made = []
    for letter in "bad":
        made.append(changed(world, letter))
        obeyed(world)
    assert made[1] == first
    assert set(world.replicas()) == {first, made[2]}


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
    changed(world)
    assert world.planned().step.target.image == "onceserve/server:2.0.0"


def test_a_refused_service_leaves_traffic_with_pods() -> None:
    world, first = running(rollout={"strategy": "BlueGreen"})
    second = changed(world)
    world.pods(second, ready=3)
    for _ in range(5):
        world.reconcile(refused_kinds={"Service"})
        assert world.traffic() == Traffic(first)
        assert world.replicas() == {first: 3, second: 3}


def test_a_deleted_service_is_back_with_the_traffic_that_it_had() -> None:
    world, first = running()
    second = changed(world)
    world.pods(second, failed=[MISSING])
    world.lose(kinds.SERVICE, "risk")
    world.settle()
    assert world.traffic() == Traffic(first)


def test_a_deleted_revision_is_not_gone_back_to() -> None:
    world, first = running()
    second = changed(world)
    world.lose(kinds.CONTROLLER_REVISION, first)
    world.lose(kinds.DEPLOYMENT, first)
    world.settle()
    assert world.resource["status"].get("stableRevision") is None
    # Its pods go with their Deployment.
    world.pods(first)
    assert obeyed(world).step.phase == Phase.STABLE
    assert world.traffic() == Traffic(second)


def test_an_old_revision_without_pods_is_left_for_the_first_pod_that_is_right() -> None:
    world, first = running()
    world.pods(first, starting=3)
    second = changed(world)
    world.pods(second, ready=1)
    world.settle()
    assert world.traffic() == EVERYBODY
    assert world.observed().serving_pods == 1


def test_the_service_account_stays_while_a_revision_with_pods_needs_it() -> None:
    world, _ = running()
    world.change(server={"serviceAccountName": "own"})
    world.settle()
    assert world.cache.owned(kinds.SERVICE_ACCOUNT, world.key)
    obeyed(world)
    assert not world.cache.owned(kinds.SERVICE_ACCOUNT, world.key)


@pytest.mark.parametrize("strategy", ["RollingUpdate", "BlueGreen"])
def test_the_disruption_budget_protects_the_revision_that_serves(strategy: str) -> None:
    world, first = running(rollout={"strategy": strategy})
    second = changed(world)
    assert budgeted(world) == first
    obeyed(world)
    assert budgeted(world) == second


def budgeted(world: World) -> str:
    [budget] = world.cache.owned(kinds.DISRUPTION_BUDGET, world.key)
    revision: str = budget["spec"]["selector"]["matchLabels"]["onceserve.dev/revision"]
    return revision
