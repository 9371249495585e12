import json
from pathlib import Path
from random import Random
from xml.etree import ElementTree

import pytest

from benchmarks.autoscaling import report
from benchmarks.autoscaling.pods import SERVICE, START_UP, WORKERS, Fleet, Pod
from benchmarks.autoscaling.policies import POLICIES, Horizontal, Knative, Ours
from benchmarks.autoscaling.replay import Outcome, replay
from benchmarks.autoscaling.traces import TRACES, Trace
from onceserve_operator.autoscaling.load import Reading

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "benchmarks" / "results"
STEP = Trace(120, lambda at: 300 if at >= 60 else 60, (60,))


def readings(*inflight: float) -> dict[str, Reading | None]:
    return {f"pod-{number}": Reading(each) for number, each in enumerate(inflight)}


def test_a_pod_works_on_some_requests_and_lets_others_wait() -> None:
    pod = Pod("a", 0)
    taken = [pod.take(0, 1.0) for _ in range(WORKERS + 1)]
    assert taken == [1.0] * WORKERS + [2.0]
    assert pod.reading(0.5) == Reading(WORKERS + 1, 0, WORKERS, 0)
    assert pod.reading(1.5) == Reading(1, WORKERS, WORKERS + 1, 1.0)


def test_new_pods_are_ready_when_they_have_started() -> None:
    fleet = Fleet(2, Random(1))
    fleet.scale(5, now=100)
    assert (len(fleet.ready(100)), len(fleet.ready(100 + START_UP)), fleet.replicas) == (2, 5, 5)


def test_the_published_algorithms() -> None:
    assert Horizontal().decide(2, readings(10, 10), 0) == 4
    assert Horizontal().decide(4, readings(5.4, 5.4, 5.4, 5.4), 0) == 4
    hpa = Horizontal()
    assert [hpa.decide(4, readings(*[each] * 4), at) for at, each in ((0, 5), (15, 1), (330, 1))] == [4, 4, 2]
    knative = Knative()
    assert knative.decide(2, readings(5, 5), 0) == 2
    assert knative.decide(2, readings(50, 50), 2) == 11


def test_a_replay_counts_its_calls_and_is_the_same_each_time() -> None:
    first, second = (replay(STEP, Ours()) for _ in range(2))
    assert first == second
    assert first.calls == pytest.approx(60 * 60 + 60 * 300, rel=0.05)
    assert first.pod_seconds > 120 * 60 * SERVICE / 5
    assert (first.decided_after(60, rise=True) or 99) <= 4


def test_changes_of_direction_are_counted() -> None:
    assert Outcome(changes=[(0, 2), (1, 5), (2, 6), (3, 4), (4, 5)]).turns == 2


def test_the_kept_run_keeps_its_promises() -> None:
    kept = json.loads((RESULTS / "autoscaling.json").read_text())
    assert {name: set(found) for name, found in kept.items()} == {name: set(POLICIES) for name in TRACES}
    for name, found in kept.items():
        for policy in ("OnceServe", "OnceServe, QueueTime"):
            assert found[policy]["turns"] <= 2 * max(1, len(TRACES[name].steps)), (name, policy)


def test_the_page_quotes_the_kept_run() -> None:
    page = (RESULTS / "autoscaling.md").read_text()
    assert page[page.index("| trace") :].strip() in (ROOT / "docs" / "autoscaling.md").read_text()


def test_the_picture_is_one() -> None:
    outcomes = {"step ×5": {name: replay(STEP, make()) for name, make in POLICIES.items()}}
    drawn = ElementTree.fromstring(report.picture(outcomes))
    assert len(list(drawn.iter("{http://www.w3.org/2000/svg}polyline"))) == 2 * len(POLICIES)
