"""Each strategy from a change of model to its end, pass by pass: where it stands, who gets traffic, what is told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from onceserve_operator.domain import Measured, Problem, Verdict
from support.golden import Golden
from support.worlds import DIGEST, World

EXAMPLES = Path(__file__).parents[3] / "examples" / "rollouts"
OTHER = {"uri": "https://models.example/other.onnx"}
MOST_PASSES = 100

Action = Callable[[World], None]


def promoted(world: World) -> None:
    world.command(f"promote {world.now.timestamp():g}")


def aborted(world: World) -> None:
    world.command("abort")


def slow(world: World) -> None:
    message = "LatencyP99 is 0.31 s, at most 0.05 s is allowed (120 requests)"
    world.measured = Measured(message, Problem("LatencyTooHigh", message, permanent=True))


def superseded(world: World) -> None:
    world.change(model={"uri": "https://models.example/third.onnx"})


CASES: dict[str, tuple[str, bool, dict[str, Action]]] = {
    # By the example, whether the new model is right, and what happens when a phase is first seen.
    "rolling-update": ("rolling-update", True, {}),
    "canary": ("canary", True, {"until somebody promotes": promoted}),
    "blue-green": ("blue-green", True, {"until somebody promotes": promoted}),
    "wrong-answers": ("canary", False, {}),
    "too-slow": ("canary", True, {"Paused": slow}),
    "aborted": ("blue-green", True, {"until somebody promotes": aborted}),
    "superseded": ("rolling-update", True, {"Shifting": superseded}),
}


@pytest.mark.parametrize("case", CASES)
def test_rollout(case: str, golden: Golden) -> None:
    example, right, actions = CASES[case]
    world = World.of_file(EXAMPLES / f"{example}.yaml")
    world.roll_out()
    world.events.clear()
    world.change(model=OTHER)
    if not right:
        revision = world.planned().step.target.name
        wrong = Problem("WrongAnswer", "request 1: probabilities[0] is 0.4, expected is 0.9", permanent=True)
        world.verdicts[revision] = Verdict(DIGEST, wrong)
    moments = list(followed(world, dict(actions)))
    told = [f"{event.reason}: {event.message}" for event in world.events]
    text = yaml.safe_dump({"moments": moments, "events": told}, sort_keys=False, width=120)
    golden.check(Path(__file__).parent / f"{case}.yaml", text)


def followed(world: World, actions: dict[str, Action]) -> list[dict[str, Any]]:
    """Return what is seen after each pass that changed something; when none does, time goes on, or it is over."""
    moments: list[dict[str, Any]] = []
    for _ in range(MOST_PASSES):
        step = world.reconcile().step
        moment = {
            "phase": step.phase,
            "message": step.message,
            "weight": step.rollout.weight,
            "traffic": "all pods" if world.traffic().shared else world.traffic().revision,
            "pods": dict(sorted(world.replicas().items())),
        }
        if not moments or moments[-1] != moment:
            moments.append(moment)
        elif step.due is None:
            return moments
        else:
            world.pass_time(seconds=step.due)
        world.follow()
        for sign in [sign for sign in actions if sign == step.phase or sign in step.message]:
            actions.pop(sign)(world)
    raise AssertionError(f"no end: {moments[-3:]}")
