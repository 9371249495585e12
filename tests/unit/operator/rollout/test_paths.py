"""The ordinary ways of a rollout, one pass after the other."""

from typing import Any

import pytest

from onceserve_operator.domain import EVERYBODY, NOBODY, Measured, Problem, Traffic, Verdict
from onceserve_operator.rollout.phases import Phase
from support.worlds import DIGEST, World
from unit.operator.rollout.paths import RESOURCE, changed, obeyed, running

WRONG = Verdict(DIGEST, Problem("WrongAnswer", "2 instead of 1", permanent=True))
SLOW = Measured("slow", Problem("LatencyP99", "too slow"))
CANARY = {"strategy": "Canary", "canary": {"steps": [{"weight": 25}, {"pause": {"duration": "1m"}}, {"weight": 50}]}}
BLUE_GREEN = {"strategy": "BlueGreen", "blueGreen": {"scaleDownDelay": "30s"}}
MANUAL = {"strategy": "BlueGreen", "blueGreen": {"promotion": "Manual", "scaleDownDelay": "30s"}}


def told(world: World) -> list[str]:
    return [event.reason for event in world.events if event.reason.startswith(("Rollout", "Traffic"))]


def test_the_first_revision_gets_traffic_with_its_first_verified_pod() -> None:
    world = World(RESOURCE)
    first = world.settle().step.target.name
    assert (world.traffic(), world.replicas()) == (NOBODY, {first: 3})
    world.silent.add(first)
    world.pods(first, ready=1, starting=2)
    assert world.settle().step.phase == Phase.VERIFYING
    assert world.traffic() == NOBODY
    world.silent.clear()
    assert world.settle().step.phase == Phase.STABLE
    assert (world.traffic(), world.replicas()) == (Traffic(first), {first: 3})


def test_a_rolling_update_moves_by_what_is_ready() -> None:
    world, first = running(replicas=4, rollout={"rollingUpdate": {"maxSurge": 1}})
    second = changed(world)
    assert (world.traffic(), world.replicas()) == (Traffic(first), {first: 4, second: 1})
    world.pods(second, ready=1)
    assert world.settle().step.phase == Phase.SHIFTING
    assert (world.traffic(), world.replicas()) == (EVERYBODY, {first: 3, second: 1})
    world.pods(first, ready=3)
    world.settle()
    assert world.replicas() == {first: 3, second: 2}
    assert obeyed(world).step.phase == Phase.STABLE
    assert (world.traffic(), world.replicas()) == (Traffic(second), {first: 0, second: 4})
    assert world.resource["status"]["stableRevision"] == second
    assert told(world)[-5:] == [
        "RolloutStarted", "RolloutVerifying", "TrafficShifting", "TrafficShifted", "RolloutComplete",
    ]  # fmt: skip


def test_a_canary_waits_at_its_steps() -> None:
    world, first = running(replicas=4, rollout=CANARY)
    second = changed(world)
    assert obeyed(world).step.phase == Phase.PAUSED
    assert (world.traffic(), world.replicas()) == (EVERYBODY, {first: 3, second: 1})
    assert world.resource["status"]["rollout"]["weight"] == 25
    assert world.planned().step.due == 60
    world.pass_time(seconds=59)
    assert obeyed(world).step.phase == Phase.PAUSED
    world.pass_time(seconds=1)
    world.settle()
    assert world.resource["status"]["rollout"]["step"] == 3
    assert obeyed(world).step.phase == Phase.STABLE
    assert (world.traffic(), world.replicas()) == (Traffic(second), {first: 0, second: 4})


def test_a_canary_through_a_gateway_leaves_the_old_pods_until_the_end() -> None:
    world, first = running(replicas=4, rollout=CANARY, gateway={"name": "front"})
    second = changed(world)
    step = obeyed(world).step
    assert (step.phase, step.rollout.weight) == (Phase.PAUSED, 25)
    assert (world.traffic(), world.replicas()) == (Traffic(first), {first: 4, second: 1})
    world.pass_time(seconds=60)
    step = obeyed(world).step
    assert (step.phase, step.rollout.weight, step.due) == (Phase.FINALIZING, 100, 10)
    assert (world.traffic(), world.replicas()) == (Traffic(second), {first: 4, second: 4})
    world.pass_time(seconds=10)
    assert obeyed(world).step.phase == Phase.STABLE
    assert (world.traffic(), world.replicas()) == (Traffic(second), {first: 0, second: 4})


def test_blue_green_switches_whole_sets_and_keeps_the_old_one_for_a_while() -> None:
    world, first = running(rollout=BLUE_GREEN)
    second = changed(world)
    world.pods(second, ready=2, starting=1)
    world.settle()
    assert (world.traffic(), world.replicas()) == (Traffic(first), {first: 3, second: 3})
    step = obeyed(world).step
    assert (step.phase, step.due) == (Phase.FINALIZING, 30)
    assert (world.traffic(), world.replicas()) == (Traffic(second), {first: 3, second: 3})
    world.pass_time(seconds=30)
    assert obeyed(world).step.phase == Phase.STABLE
    assert world.replicas() == {first: 0, second: 3}


def test_blue_green_is_over_when_the_old_pods_are_gone_and_answer_nobody() -> None:
    world, first = running(rollout=BLUE_GREEN)
    second = changed(world)
    obeyed(world)
    world.pass_time(seconds=30)
    world.settle()
    world.dismiss(first, seconds=40)
    step = world.settle().step
    assert (step.phase, step.due) == (Phase.FINALIZING, 40)
    world.pass_time(seconds=40)
    assert world.settle().step.phase == Phase.STABLE
    assert (world.traffic(), world.replicas()) == (Traffic(second), {first: 0, second: 3})


def test_a_manual_promotion_waits_for_a_person() -> None:
    world, first = running(rollout=MANUAL)
    second = changed(world)
    assert obeyed(world).step.phase == Phase.PAUSED
    world.pass_time(hours=1)
    assert obeyed(world).step.due is None
    assert (world.traffic(), world.replicas()) == (Traffic(first), {first: 3, second: 3})
    world.command("promote")
    assert obeyed(world).step.phase == Phase.FINALIZING
    assert world.traffic() == Traffic(second)


@pytest.mark.parametrize("rollout", [{}, CANARY, BLUE_GREEN])
def test_wrong_answers_keep_traffic_where_it_is(rollout: dict[str, Any]) -> None:
    world, first = running(rollout=rollout)
    second = changed(world)
    world.verdicts[second] = WRONG
    step = obeyed(world).step
    assert step.phase == Phase.ABORTED
    assert "2 instead of 1" in step.message
    assert (world.traffic(), world.replicas()) == (Traffic(first), {first: 3, second: 0})
    assert world.traffic() != EVERYBODY
    world.pass_time(hours=9)
    assert obeyed(world).step.phase == Phase.ABORTED
    world.verdicts.clear()
    world.command("retry")
    obeyed(world)
    assert obeyed(world).step.phase in {Phase.STABLE, Phase.PAUSED, Phase.FINALIZING}


def test_a_revision_that_is_not_ready_in_time_is_given_up() -> None:
    world, first = running()
    second = changed(world)
    world.pods(second, starting=1)
    world.settle()
    world.pass_time(minutes=9, seconds=59)
    assert world.settle().step.phase == Phase.PREPARING
    world.pass_time(seconds=1)
    assert world.settle().step.phase == Phase.ABORTED
    assert (world.traffic(), world.replicas()) == (Traffic(first), {first: 3, second: 0})


def test_a_slow_canary_loses_traffic_once_the_old_pods_are_back() -> None:
    world, first = running(replicas=4, rollout=CANARY)
    second = changed(world)
    obeyed(world)
    world.measured = SLOW
    world.settle()
    # The old set is grown first: its pods are below the floor.
    assert (world.traffic(), world.replicas()) == (EVERYBODY, {first: 4, second: 1})
    world.pods(first, ready=4)
    assert world.settle().step.phase == Phase.ABORTED
    assert (world.traffic(), world.replicas()) == (Traffic(first), {first: 4, second: 0})


def test_an_abort_after_the_switch_goes_back_at_once() -> None:
    world, first = running(rollout=BLUE_GREEN)
    second = changed(world)
    obeyed(world)
    world.command("abort")
    world.reconcile()
    assert world.traffic() == Traffic(first)
    assert obeyed(world).step.phase == Phase.ABORTED
    assert world.replicas() == {first: 3, second: 0}


def test_what_is_superseded_before_traffic_leaves_at_once() -> None:
    world, first = running()
    second = changed(world)
    third = changed(world, "c")
    assert (world.traffic(), world.replicas()) == (Traffic(first), {first: 3, second: 0, third: 1})
    assert obeyed(world).step.phase == Phase.STABLE
    assert (world.traffic(), world.replicas()[third]) == (Traffic(third), 3)


def test_what_is_superseded_under_traffic_gives_it_back_first() -> None:
    world, first = running(replicas=4, rollout=CANARY)
    second = changed(world)
    obeyed(world)
    third = changed(world, "c")
    assert (world.traffic(), world.replicas()) == (EVERYBODY, {first: 4, second: 1, third: 0})
    world.pods(first, ready=4)
    world.settle()
    # There is no room for the third before the pods of the second are gone.
    assert (world.traffic(), world.replicas()) == (Traffic(first), {first: 4, second: 0, third: 0})
    world.pods(second)
    world.settle()
    assert world.replicas() == {first: 4, second: 0, third: 1}


def test_going_back_in_mid_rollout_needs_no_new_pod() -> None:
    world, first = running()
    second = changed(world)
    assert changed(world, "a") == first
    assert world.planned().step.phase == Phase.STABLE
    assert (world.traffic(), world.replicas()) == (Traffic(first), {first: 3, second: 0})


def test_a_former_revision_is_gone_back_to_by_command() -> None:
    world, first = running()
    second = changed(world)
    obeyed(world)
    assert world.traffic() == Traffic(second)
    world.command("rollback")
    assert obeyed(world).step.phase == Phase.ABORTED
    assert (world.traffic(), world.replicas()) == (Traffic(first), {first: 3, second: 0})
    world.command("retry")
    assert obeyed(world).step.phase == Phase.STABLE
    assert world.traffic() == Traffic(second)


def test_a_pause_by_command_holds_what_there_is() -> None:
    world, first = running(replicas=4, rollout={"rollingUpdate": {"maxSurge": 1}})
    second = changed(world)
    world.pods(second, ready=1)
    world.settle()
    world.command("pause")
    step = obeyed(world).step
    assert (step.phase, step.due) == (Phase.PAUSED, None)
    assert (world.traffic(), world.replicas()) == (EVERYBODY, {first: 3, second: 1})
    world.command("promote")
    assert obeyed(world).step.phase == Phase.STABLE
    assert world.traffic() == Traffic(second)


def test_scaling_reaches_a_rollout_in_mid_flight() -> None:
    world, first = running(replicas=4, rollout=CANARY)
    second = changed(world)
    obeyed(world)
    world.change(replicas=8)
    obeyed(world)
    assert world.replicas() == {first: 6, second: 2}
    world.change(replicas=0)
    assert obeyed(world).step.phase == Phase.STABLE
    assert (world.traffic(), set(world.replicas().values())) == (NOBODY, {0})
    assert world.condition("Ready")["reason"] == "ScaledToZero"
    world.change(replicas=2)
    world.verdicts[second] = WRONG
    # What has been found right serves first, and goes on to where the other is wrong.
    assert obeyed(world).step.phase == Phase.ABORTED
    assert (world.traffic(), world.replicas()) == (Traffic(first), {first: 2, second: 0})


def test_a_first_revision_that_is_wrong_gets_no_traffic() -> None:
    world = World(RESOURCE)
    first = world.settle().step.target.name
    world.verdicts[first] = WRONG
    assert obeyed(world).step.phase == Phase.ABORTED
    assert world.traffic() == NOBODY
    second = changed(world)
    assert obeyed(world).step.phase == Phase.STABLE
    assert (world.traffic(), world.replicas()) == (Traffic(second), {first: 0, second: 3})


def test_the_pods_of_a_third_revision_are_not_reached() -> None:
    world, first = running(replicas=2, rollout={"rollingUpdate": {"maxSurge": "100%"}})
    second = changed(world)
    world.verdicts[second] = WRONG
    world.pods(second, ready=1)
    third = changed(world, "c")
    world.pods(third, ready=2)
    assert world.settle().step.phase == Phase.SHIFTING
    assert world.traffic() == Traffic(first)
    world.pods(second)
    world.settle()
    assert world.traffic() == EVERYBODY


def test_what_went_on_without_an_operator_counts_as_progress() -> None:
    world, first = running(replicas=2)
    second = changed(world)
    world.pass_time(hours=1)
    world.pods(second, ready=1)
    assert world.settle().step.phase == Phase.SHIFTING
    world.pods(first, ready=1)
    world.settle()
    world.pass_time(hours=1)
    world.pods(second, ready=2)
    assert obeyed(world).step.phase == Phase.STABLE
    assert world.traffic() == Traffic(second)
