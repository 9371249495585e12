"""Changes of a model on real nodes, one after another, while clients ask without pause and never retry: no call fails.

`make soak-rollouts CALLS=100000` makes each of them again until it has met so many calls.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from devcluster.cluster import Cluster
from e2e.conftest import SYSTEM
from support.changing import Changes
from support.killing import kill
from support.operators import Operators
from support.served import Served, await_ready_pods, serving
from support.showing import CALLS, CLIENTS, Stage
from support.waiting import eventually
from support.watching import watching

pytestmark = pytest.mark.timeout(900 + CALLS / 50)

ROLLING = {"strategy": "RollingUpdate"}
HASTY = {**ROLLING, "progressDeadline": "20s"}
BLUE_GREEN = {"strategy": "BlueGreen", "blueGreen": {"scaleDownDelay": "3s"}}
MANUAL = {"strategy": "BlueGreen", "blueGreen": {"scaleDownDelay": "3s", "promotion": "Manual"}}


def canary(*steps: int | str | None, **fields: Any) -> dict[str, Any]:
    """Return a canary of weights, of pauses with a duration, and of None: pauses until somebody promotes."""
    return {"strategy": "Canary", "canary": {"steps": [canary_step(each) for each in steps]}, **fields}


def canary_step(step: int | str | None) -> dict[str, Any]:
    if isinstance(step, int):
        return {"weight": step}
    return {"pause": {"duration": step} if step else {}}


@pytest.fixture(scope="module")
def served(installed: Cluster) -> Iterator[Served]:
    """The example in a namespace of its own, for all changes."""
    with serving(installed, "e2e-rollouts") as example:
        yield example


@pytest.fixture(scope="module")
def changes(served: Served) -> Changes:
    return Changes(served)


@pytest.fixture(scope="module")
def stage(served: Served, changes: Changes) -> Iterator[Stage]:
    """One load and one watch, from the first change to the last."""
    with watching(served.cluster, served.namespace, served.name) as history, served.running_load(*CLIENTS) as load:
        yield Stage(changes, load, history)


def test_rolling_update(changes: Changes, stage: Stage) -> None:
    stage.show("RollingUpdate", lambda: changes.await_stable(changes.ask(rollout=ROLLING)))


def test_canary_in_steps_and_promoted_by_hand(changes: Changes, stage: Stage) -> None:
    def change() -> None:
        old = changes.serving()
        new = changes.ask(rollout=canary(25, "2s", 50, None))
        eventually(lambda: changes.await_phase("Paused")["step"] == 4, "the last step")
        stage.look()
        time.sleep(1)
        assert stage.look().revisions.keys() == {old, new}
        changes.command("promote")
        changes.await_stable(new)

    stage.show("Canary, the last step by hand", change)


def test_blue_green(changes: Changes, stage: Stage) -> None:
    def change() -> None:
        new = changes.ask(rollout=BLUE_GREEN)
        changes.await_stable(new)
        seen_at_once(stage, new)

    stage.show("BlueGreen", change)


def seen_at_once(stage: Stage, new: str) -> None:
    """No client has gone back to what it had left, and from now on all see the new revision."""
    assert stage.look().returns == 0
    time.sleep(1)
    assert stage.look().revisions.keys() == {new}


def test_blue_green_is_looked_at_before_it_is_promoted(changes: Changes, stage: Stage) -> None:
    def change() -> None:
        old = changes.serving()
        new = changes.ask(rollout=MANUAL)
        changes.await_phase("Paused")
        answer = changes.preview()
        assert f'"{new}"' in answer
        assert changes.is_right(answer)
        assert stage.look().revisions.keys() == {old}
        changes.command("promote")
        changes.await_stable(new)
        seen_at_once(stage, new)

    stage.show("BlueGreen, promoted by hand", change)


def refused(changes: Changes, stage: Stage, ask: Callable[[], str]) -> Callable[[], dict[str, str]]:
    """Return a change to a revision that never answers anybody, and is refused."""

    def change() -> dict[str, str]:
        bad = ask()
        stage.refuse(bad)
        return changes.await_refusal(bad)

    return change


def test_wrong_answers_never_reach_a_client(changes: Changes, stage: Stage) -> None:
    def change() -> None:
        bad = changes.ask(rollout={**ROLLING, "verification": changes.golden(changes.serving())})
        stage.refuse(bad)
        refusal = changes.await_refusal(bad)
        assert refusal["reason"] == "WrongAnswer"
        assert 'output "probabilities" at [0, 0]: got 0.' in refusal["message"]

    stage.show("wrong answers", change)


def test_a_slow_revision_is_taken_back(changes: Changes, stage: Stage) -> None:
    def change() -> None:
        old = changes.serving()
        bound = {"metrics": [{"name": "LatencyP99", "max": "200ms", "minSamples": 20}]}
        slow = changes.ask(rollout=canary(34, None, verification=bound), batching={"maxDelay": "300ms"})
        refusal = changes.await_refusal(slow)
        assert "LatencyP99" in refusal["message"]
        assert stage.look().revisions.keys() == {old, slow}

    stage.show("too slow", change)


@pytest.mark.parametrize("case", ["missing model", "crashing image"])
def test_what_never_starts_never_answers(case: str, changes: Changes, stage: Stage, operator_image: str) -> None:
    specs: dict[str, tuple[dict[str, Any], str]] = {
        "missing model": ({"model": {"uri": "configmap://nowhere/model.onnx"}}, "NotFound"),
        "crashing image": ({"server": {"image": operator_image}}, "Crashed"),
    }
    spec, reason = specs[case]

    def change() -> None:
        bad = changes.ask(rollout=HASTY, **spec)
        stage.refuse(bad)
        refusal = changes.await_refusal(bad)
        assert refusal["reason"] == reason, refusal
        assert "no progress for 20 s" in refusal["message"]

    stage.show(case, change)


@pytest.fixture(scope="module")
def operator_image(installed: Cluster) -> str:
    """An image that is on all nodes and in which no model is ever served."""
    path = "jsonpath={.spec.template.spec.containers[0].image}"
    return installed.kubectl("get", "-n", SYSTEM, "deployment/onceserve-operator", "-o", path)


def test_superseded_by_a_third_revision(changes: Changes, stage: Stage) -> None:
    def change() -> None:
        never = changes.ask(rollout=ROLLING, model={"uri": "configmap://nowhere/model.onnx"})
        stage.refuse(never)
        changes.await_phase("Preparing")
        changes.ask(rollout=canary(34, None))
        changes.await_phase("Paused")
        changes.await_stable(changes.ask(rollout=ROLLING))

    stage.show("A → B → C", change)


def test_superseded_by_the_first_revision(changes: Changes, stage: Stage) -> None:
    def change() -> None:
        first = changes.serving()
        changes.ask(rollout=canary(34, None))
        changes.await_phase("Paused")
        changes.ask_again(first)
        changes.await_stable(first)

    stage.show("A → B → A", change)


def test_scaled_in_mid_rollout(changes: Changes, stage: Stage) -> None:
    def scale(replicas: int) -> None:
        changes.served.kubectl("scale", f"mdep/{changes.served.name}", f"--replicas={replicas}")

    def change() -> None:
        new = changes.ask(rollout=ROLLING)
        scale(5)
        changes.await_phase("Shifting")
        scale(2)
        changes.await_stable(new)
        await_ready_pods(changes.served, 2)
        scale(3)
        await_ready_pods(changes.served, 3)
        eventually(lambda: changes.served.status()["readyReplicas"] == 3, "the status has 3")

    stage.show("scaled to 5 while preparing, to 2 while shifting", change, least=2)


def test_operator_killed_in_mid_rollout(changes: Changes, stage: Stage, installed: Cluster) -> None:
    def change() -> None:
        new = changes.ask(rollout=canary(34, "1s"))
        changes.await_phase("Shifting", "Paused")
        assert kill(Operators(installed, SYSTEM).leader())
        changes.await_stable(new)

    stage.show("operator killed", change)


def test_strategy_switched_in_mid_rollout(changes: Changes, stage: Stage) -> None:
    def change() -> None:
        new = changes.ask(rollout=canary(34, None))
        changes.await_phase("Paused")
        changes.served.replace({"rollout": BLUE_GREEN})
        changes.await_stable(new)

    stage.show("Canary, then BlueGreen", change)
