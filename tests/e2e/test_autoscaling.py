"""Models that follow their load on real nodes: a load that rises to five times, one that comes and goes, a rollout.

`make soak-autoscaling PERIOD=300` has the load come and go so slowly that pods are taken away in between.
"""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from devcluster.cluster import Cluster
from onceserve_operator.autoscaling import policy
from support.applying import ON_THE_CLIENT, Manifest
from support.changing import Changes
from support.scaling import (
    HEAVY,
    LIGHT,
    Case,
    Step,
    create_models,
    deploy,
    numbers,
    scaled,
    table,
    together,
    turns,
)
from support.served import Served
from support.waiting import eventually, steadily
from support.watching import watching

PERIOD = float(os.environ.get("WAVE_PERIOD", "20"))
"""Seconds of one period of the square wave."""
PERIODS = 2
DECISION = 4.0
"""Seconds within which a load step is decided."""
TURNS = 2
"""Changes of direction for each load step at most."""
QUIET = 5.0
"""Seconds that are looked at before and after."""

pytestmark = pytest.mark.timeout(900 + 2 * PERIODS * PERIOD)


# A light model whose batches wait for others is busy while the processor is not: two cores carry many pods of it.
CONCURRENCY = Case(
    metric="Concurrency",
    target="4",
    least=2,
    enough=10,
    most=12,
    model=LIGHT,
    server={"batching": {"maxDelay": "1s"}},
    base="closed,new,8",
    rise="closed,new,32",
)
# One pod holds 10 calls of 0.4 s each: it refuses some of the risen load until there are more.
RATE = Case(
    metric="RequestsPerSecond",
    target="7",
    least=1,
    enough=5,
    most=8,
    model=LIGHT,
    server={"batching": {"maxDelay": "400ms"}, "admission": {"maxConcurrency": 8, "maxQueue": 2}},
    base="open,patient,16,6.5",
    rise="open,patient,96,26",
)
# One pod makes some 10 runs a second; the others of the risen load wait.
QUEUE_TIME = Case(
    metric="QueueTime",
    target="100ms",
    least=1,
    enough=4,
    most=6,
    model=HEAVY,
    server={"batching": {"maxBatchSize": 1}, "server": {"resources": {"limits": {"cpu": "200m"}}}},
    base="open,new,16,5",
    rise="open,new,64,20",
)
CASES = (CONCURRENCY, RATE, QUEUE_TIME)
# All at once, and again and again: for as many pods as a small machine can start meanwhile.
WAVES = (
    replace(CONCURRENCY, least=1, most=5, base="closed,new,4", rise="closed,new,10"),
    replace(RATE, most=5, rise="open,patient,32,10"),
    replace(QUEUE_TIME, most=5),
)

CANARY = {"strategy": "Canary", "canary": {"steps": [{"weight": 34}, {"pause": {"duration": "10s"}}]}}
MINIMUM = {
    "model": {"uri": LIGHT},
    "autoscaling": {"metric": "Concurrency", "target": "4", "minReplicas": 2, "maxReplicas": 5},
}
PEOPLE = ("people", "")
AUTOSCALING = ("onceserve-operator", "scale")


@pytest.fixture
def models(installed: Cluster, namespace: str) -> str:
    """A namespace that has the models."""
    create_models(installed, namespace)
    return namespace


@pytest.fixture(scope="module")
def steps() -> Iterator[list[Step]]:
    """All load steps of this module, for one table."""
    made: list[Step] = []
    yield made
    print(table(made))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.metric)
def test_a_load_step_is_decided_in_time_and_no_call_fails(
    case: Case, installed: Cluster, models: str, steps: list[Step]
) -> None:
    with scaled(installed, models, case) as model:
        time.sleep(QUIET)
        assert model.base.mark().failures == []
        time.sleep(QUIET)
        before = model.base.mark()
        assert {moment.wanted for moment in model.history.between(before.begun)} == {case.least}
        with model.rise() as risen:
            model.settled()
            time.sleep(QUIET)
            during = risen.mark()
            meanwhile = model.base.mark()
            time.sleep(QUIET)
            after = together(model.base.mark(), risen.end())
        decided = model.history.first("more pods", lambda moment: moment.wanted > case.least)
        settled = model.settled()
        step = Step(case, decided.at - during.begun, settled.at - during.begun, settled.wanted)
        step.windows += [before, together(meanwhile, during), after]
        steps.append(step)
        print(model.told(during.begun))
        print(table([step]))
    failures = [failure for window in step.windows for failure in window.failures]
    assert failures == []
    assert step.decided <= DECISION
    assert turns(model.history.moments) == 0
    # All of them have a share of the load.
    assert len(after.pods) >= case.enough
    if "patient" in case.base:
        assert during.refused > 0, "the load was no reason to refuse"


def test_pods_do_not_swing_with_a_load_that_comes_and_goes(installed: Cluster, models: str) -> None:
    edges: list[float] = []
    for case in WAVES:
        deploy(installed, models, case)
    with ExitStack() as stack:
        waves = [stack.enter_context(scaled(installed, models, case)) for case in WAVES]
        time.sleep(QUIET)
        for _ in range(PERIODS):
            edges.append(time.time())
            with ExitStack() as crest:
                risen = [crest.enter_context(wave.rise()) for wave in waves]
                time.sleep(PERIOD / 2)
                failures = [failure for load in risen for failure in load.end().failures]
            assert failures == []
            edges.append(time.time())
            time.sleep(PERIOD / 2)
        for wave in waves:
            assert wave.base.end().failures == []
    for wave in waves:
        print(wave.told(edges[0]))
        turned = wave.turned(edges)
        print(f"{wave.case.metric}: changes of direction after each of {len(edges)} load steps: {turned}")
        assert max(moment.wanted for moment in wave.history.moments) > wave.case.least
        assert max(turned) <= TURNS
        assert any(turned) == (PERIOD / 2 > policy.DELAY), "none within the time in which no pod is taken away"


def test_a_load_step_in_mid_rollout_and_replicas_that_are_given_back(installed: Cluster, models: str) -> None:
    with scaled(installed, models, CONCURRENCY) as model:
        changes = Changes(model.served)
        old = changes.serving()
        new = changes.ask(rollout=CANARY, batching=CONCURRENCY.server["batching"])
        changes.await_phase("Paused")
        with model.rise() as risen:
            more = model.history.first("more pods", lambda moment: moment.wanted > CONCURRENCY.least)
            assert more.phase == "Paused"
            changes.await_stable(new)
            scaled_to = model.settled(time.time()).wanted
            seen = together(model.base.mark(), risen.mark())
            assert seen.revisions.keys() == {old, new}
            assert all(map(changes.is_right, seen.bodies))

            model.served.patch({"autoscaling": None})
            steadily(lambda: model.history.moments[-1].wanted == scaled_to, "replicas stay as they are", 3)
            model.served.kubectl("scale", f"mdep/{model.served.name}", "--replicas=3")
            asked = time.time()
            model.history.first("3 pods", lambda moment: moment.ready == moment.wanted == 3, asked)
            steadily(lambda: model.history.moments[-1].wanted == 3, "replicas stay as a person scaled", 5)
            later = together(model.base.mark(), risen.end())
    print(f"{seen.calls + later.calls} calls, {seen.failed + later.failed} failed; {model.told(seen.begun)}")
    assert seen.failures + later.failures == []


def test_replicas_belong_to_who_changed_them_last(installed: Cluster, models: str) -> None:
    served = Served(installed, models, "owned")
    manifest = Manifest(served, MINIMUM)
    manifest.apply()
    with watching(served.cluster, served.namespace, served.name) as history:
        history.first("the minimum", lambda moment: moment.wanted == 2)
        begun = time.time()

        def go(*expected: int) -> None:
            """See the replicas go from one number to the next, and stay at the last."""
            nonlocal begun
            eventually(lambda: numbers(history.between(begun)) == [*expected], f"replicas {expected}")
            steadily(lambda: numbers(history.between(begun)) == [*expected], f"replicas {expected}", 2)
            begun = time.time()

        # A default belongs to nobody, and so does what is written through /scale over what belongs to nobody.
        assert manifest.owners() == []
        manifest.apply()
        go(2)

        manifest.apply(replicas=1)
        go(2, 1, 2)
        assert manifest.owners() == [AUTOSCALING]
        manifest.apply()
        go(2)

        manifest.apply(replicas=3)
        go(2, 3)
        assert manifest.owners() == [PEOPLE]
        manifest.apply()
        go(3, 1, 2)
        assert manifest.owners() == []

        manifest.apply(replicas=3)
        go(2, 3)
        manifest.hand_over(3)
        manifest.apply()
        go(3)

        served.kubectl("delete", "mdep", served.name)
        manifest.apply(ON_THE_CLIENT, replicas=3)
        manifest.forget()
        manifest.apply(ON_THE_CLIENT)
        steadily(lambda: served.get(f"mdep/{served.name}")["spec"]["replicas"] == 3, "what was handed over", 2)
