"""What is lost, scaled, replanned or taken back in the middle of a rollout."""

from dataclasses import replace
from typing import Any

import pytest

from onceserve_operator import plan
from onceserve_operator.domain import EVERYBODY, Problem, Traffic, Verdict
from onceserve_operator.plan import Defaults
from onceserve_operator.rollout.phases import Phase
from support.worlds import DIGEST, IMAGE, SECRET
from unit.operator.rollout.paths import changed, running

WRONG = Verdict(DIGEST, Problem("WrongAnswer", "2 instead of 1", permanent=True))
BLUE_GREEN = {"strategy": "BlueGreen", "blueGreen": {"scaleDownDelay": "30s"}}
MANUAL = {"strategy": "BlueGreen", "blueGreen": {"promotion": "Manual"}}


def test_what_the_new_revision_loses_the_old_one_has_again() -> None:
    world, first = running(replicas=4)
    second = changed(world)
    while world.replicas()[second] < 3:
        world.follow()
        world.settle()
    world.pods(second, starting=3)
    world.roll_out()
    assert (world.traffic(), world.replicas()[first]) == (EVERYBODY, 4)
    assert world.observed().serving_pods == 4
    world.pass_time(minutes=10)
    assert world.roll_out().step.phase == Phase.ABORTED
    assert (world.traffic(), world.replicas()) == (Traffic(first), {first: 4, second: 0})


@pytest.mark.parametrize("steps", [[{"weight": 50}, {"pause": {}}], [{"weight": 50}, {"pause": {"duration": "72h"}}]])
def test_a_canary_that_dies_in_its_pause_is_made_up_for_and_given_up(steps: list[dict[str, Any]]) -> None:
    world, first = running(replicas=2, rollout={"strategy": "Canary", "canary": {"steps": steps}})
    second = changed(world)
    assert world.roll_out().step.phase == Phase.PAUSED
    assert world.replicas() == {first: 1, second: 1}
    world.pods(second, starting=1)
    step = world.roll_out().step
    assert (step.phase, step.due, world.replicas()) == (Phase.PAUSED, 600, {first: 2, second: 1})
    assert world.observed().serving_pods == 2
    world.pass_time(minutes=10)
    assert world.roll_out().step.phase == Phase.ABORTED
    assert (world.traffic(), world.replicas()) == (Traffic(first), {first: 2, second: 0})


def test_a_pause_by_command_makes_up_for_what_is_lost() -> None:
    world, first = running(replicas=4)
    second = changed(world)
    while world.replicas()[second] < 2:
        world.follow()
        world.settle()
    world.command("pause")
    world.roll_out()
    world.pods(second, starting=2)
    assert world.roll_out().step.phase == Phase.PAUSED
    assert (world.traffic(), world.replicas()[first]) == (EVERYBODY, 4)
    world.pass_time(minutes=10)
    assert world.roll_out().step.phase == Phase.ABORTED


def test_a_switched_set_that_dies_gives_traffic_back_to_the_one_that_still_stands() -> None:
    world, first = running(rollout=BLUE_GREEN)
    second = changed(world)
    assert world.roll_out().step.phase == Phase.FINALIZING
    world.pods(second, starting=3)
    world.reconcile()
    assert (world.traffic(), world.replicas()[first]) == (Traffic(first), 3)
    assert world.roll_out().step.phase == Phase.ABORTED
    assert "PodsLost" in [event.reason for event in world.events]
    assert world.replicas() == {first: 3, second: 0}


def test_a_switched_set_that_lacks_a_pod_keeps_the_old_one_beside_it() -> None:
    world, first = running(rollout=BLUE_GREEN)
    second = changed(world)
    world.roll_out()
    world.pods(second, ready=2, starting=1)
    world.pass_time(minutes=5)
    step = world.roll_out().step
    assert (step.phase, step.due, world.replicas()) == (Phase.FINALIZING, 600, {first: 3, second: 3})
    world.pods(second, ready=3)
    assert world.roll_out().step.phase == Phase.STABLE
    assert world.replicas() == {first: 0, second: 3}


def test_scaling_right_after_a_switch_gives_nothing_up() -> None:
    world, first = running(rollout=BLUE_GREEN)
    second = changed(world)
    world.roll_out()
    world.change(replicas=8)
    world.settle()
    assert world.replicas() == {first: 5, second: 8}
    world.pods(first, ready=5)
    assert world.settle().step.phase == Phase.FINALIZING
    assert world.roll_out().step.phase == Phase.FINALIZING
    world.pass_time(seconds=30)
    assert world.roll_out().step.phase == Phase.STABLE


def test_a_leader_whose_clock_is_ahead_gives_nothing_up() -> None:
    world, _ = running()
    world.pods(changed(world), starting=1)
    world.settle()
    world.pass_time(minutes=11)
    observed = world.observed()
    looking = replace(observed, seen=replace(observed.seen, since=world.now))
    step = plan.make(looking, plan.read(looking)[0], Defaults(IMAGE, SECRET), world.now).step
    assert (step.phase, step.due) == (Phase.PREPARING, 600)


def test_an_only_pod_that_dies_right_after_its_rollout_is_replaced_by_the_old_revision() -> None:
    world, first = running(replicas=1)
    second = changed(world)
    while world.replicas()[first]:
        world.follow()
        world.settle()
    world.pods(first)
    world.pods(second, starting=1)
    world.roll_out()
    assert world.replicas()[first] == 1
    assert world.observed().serving_pods == 1


def test_scaling_to_nothing_in_mid_rollout_keeps_what_was_found_right() -> None:
    world, first = running()
    second = changed(world)
    world.verdicts[second] = WRONG
    world.change(replicas=0)
    world.roll_out()
    assert world.resource["status"]["stableRevision"] == first
    assert "no pod is wanted" in world.resource["status"]["rollout"]["message"]
    world.change(replicas=3)
    assert world.roll_out().step.phase == Phase.ABORTED
    assert (world.traffic(), world.replicas()) == (Traffic(first), {first: 3, second: 0})


def test_another_strategy_in_a_pause_waits_anew() -> None:
    careful = {"strategy": "Canary", "canary": {"steps": [{"weight": 0}, {"pause": {}}]}}
    world, first = running(replicas=4, rollout=careful)
    changed(world)
    assert world.roll_out().step.phase == Phase.PAUSED
    world.change(rollout=MANUAL)
    assert world.roll_out().step.phase == Phase.PAUSED
    assert world.traffic() == Traffic(first)


def test_more_careful_steps_take_traffic_back() -> None:
    steps = [{"weight": 20}, {"pause": {"duration": "10s"}}, {"weight": 50}, {"pause": {}}, {"weight": 60}]
    world, first = running(replicas=4, rollout={"strategy": "Canary", "canary": {"steps": steps}})
    second = changed(world)
    world.roll_out()
    world.pass_time(seconds=10)
    assert world.roll_out().step.phase == Phase.PAUSED
    assert world.replicas() == {first: 2, second: 2}
    world.change(rollout={"strategy": "Canary", "canary": {"steps": [{"weight": 20}, {"pause": {}}]}})
    assert world.roll_out().step.phase == Phase.PAUSED
    assert world.replicas() == {first: 4, second: 1}


def test_who_went_back_is_told_who_serves_until_then() -> None:
    world, first = running()
    second = changed(world)
    world.roll_out()
    world.command("rollback")
    world.settle()
    world.pods(first, ready=1)
    world.settle()
    assert world.traffic() == EVERYBODY
    assert world.condition("Ready")["message"].endswith(f"({second} serves until {first} does)")
    world.roll_out()
    assert world.condition("Ready")["message"].endswith(f"({first} goes on serving)")


def test_what_is_being_taken_back_is_not_ready() -> None:
    world, _ = running(rollout=BLUE_GREEN)
    changed(world)
    world.roll_out()
    assert world.condition("Ready")["status"] == "True"
    world.command("abort")
    world.reconcile()
    assert world.condition("Ready")["status"] == "False"
