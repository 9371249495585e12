from datetime import timedelta
from typing import Any

import pytest

from onceserve_operator.api.rollout import Refusal
from onceserve_operator.domain import EVERYBODY, NOBODY, Event, Measured, Problem, Traffic
from onceserve_operator.rollout import words
from onceserve_operator.rollout.phases import Phase
from onceserve_operator.rollout.situation import Situation
from onceserve_operator.rollout.state import State
from onceserve_operator.rollout.steps import Wait, Weight
from unit.operator.rollout.situations import NOW, on_its_way, pods, situation

STEPS = (Weight(25), Wait(90), Weight(50), Wait(), Weight(100))
REFUSED = (Refusal(revision="new", reason="WrongAnswer", message="2 instead of 1"),)
WHOLE = {"old": pods(4), "new": pods(4)}
MIXED = {"sets": {"old": pods(3), "new": pods(1)}, "traffic": EVERYBODY, "steps": STEPS}


@pytest.mark.parametrize(
    ("state", "seconds"),
    [
        (State(stable="new"), None),
        (State(Phase.ABORTED, stable="old"), None),
        (on_its_way(Phase.PREPARING), 540),
        (on_its_way(Phase.VERIFYING), 540),
        (on_its_way(Phase.SHIFTING), 540),
        (on_its_way(Phase.ABORTING), 540),
        (on_its_way(Phase.PREPARING, stable=None), None),
        (on_its_way(Phase.PAUSED, step=1), 30),
        (on_its_way(Phase.PAUSED, step=3), None),
        (on_its_way(Phase.PAUSED, step=1, held=Phase.SHIFTING), None),
        (on_its_way(Phase.PAUSED, step=2), None),
        (on_its_way(Phase.FINALIZING), 240),
        (on_its_way(Phase.PREPARING, progressed=NOW - timedelta(hours=1)), None),
    ],
)
def test_time_itself_changes_something(state: State, seconds: float | None) -> None:
    assert words.due(state, situation(steps=STEPS, scale_down_delay=300.0, sets=WHOLE)) == seconds


def test_pods_that_are_missing_in_a_pause_are_waited_for_no_longer_than_others() -> None:
    lost = {"steps": STEPS, "sets": {"old": pods(3), "new": pods(1, ready=0, verified=0)}, "traffic": EVERYBODY}
    assert words.due(on_its_way(Phase.PAUSED, step=3), situation(**lost)) == 540
    assert words.due(on_its_way(Phase.PAUSED, step=1), situation(**lost)) == 30


@pytest.mark.parametrize(
    ("state", "facts", "percent"),
    [
        (State(stable="new"), {}, None),
        (on_its_way(Phase.SHIFTING), MIXED, 25),
        (on_its_way(Phase.SHIFTING), {**MIXED, "traffic": Traffic("old")}, 0),
        (on_its_way(Phase.FINALIZING), {**MIXED, "traffic": Traffic("new")}, 100),
        (on_its_way(Phase.PREPARING), {"traffic": NOBODY}, 0),
        (on_its_way(Phase.PREPARING), {"traffic": None}, 0),
        (on_its_way(Phase.SHIFTING), {**MIXED, "sets": {}}, 0),
        (on_its_way(Phase.PAUSED, step=1), {**MIXED, "routed": True, "traffic": Traffic("old")}, 25),
        (on_its_way(Phase.VERIFYING), {**MIXED, "routed": True, "traffic": Traffic("old")}, 0),
    ],
)
def test_the_share_of_traffic_is_that_of_ready_pods(state: State, facts: dict[str, Any], percent: int | None) -> None:
    assert words.percent(state, situation(**facts)) == percent


@pytest.mark.parametrize(
    ("state", "seen", "message"),
    [
        (State(stable="old"), situation(), "old gets all traffic"),
        (State(), situation(), "no pod is wanted"),
        (
            on_its_way(Phase.PREPARING),
            situation(sets={"old": pods(4), "new": pods(0, trouble=Problem("Pulling", "no such image"))}),
            "0 of 1 pods of new are ready: no such image; old gets all traffic; it is given up at 12:09:00 UTC",
        ),
        (on_its_way(Phase.VERIFYING, stable=None), situation(sets={}), "0 of 1 pods of new are verified"),
        (
            on_its_way(Phase.SHIFTING, step=2),
            situation(**MIXED, measured=Measured("LatencyP99 is 7 ms")),
            "step 3: traffic moves from old to new; LatencyP99 is 7 ms; it is given up at 12:09:00 UTC",
        ),
        (
            on_its_way(Phase.PAUSED, step=1),
            situation(**MIXED),
            "step 2: paused until 12:00:30 UTC; new gets 25 % of traffic",
        ),
        (
            on_its_way(Phase.PAUSED, step=3),
            situation(**{**MIXED, "sets": {"old": pods(2), "new": pods(2)}}),
            "step 4: paused until somebody promotes; new gets 50 % of traffic",
        ),
        (
            on_its_way(Phase.PAUSED, held=Phase.VERIFYING),
            situation(),
            "paused by command while verifying new, until somebody promotes",
        ),
        (
            on_its_way(Phase.PAUSED, step=1),
            situation(**{**MIXED, "steps": (Weight(25), Wait(72 * 3600), Weight(100))}),
            "step 2: paused until 2026-01-04 11:59:00 UTC; new gets 25 % of traffic",
        ),
        (
            on_its_way(Phase.SHIFTING, step=4),
            situation(**MIXED),
            "last step: traffic moves from old to new; it is given up at 12:09:00 UTC",
        ),
        (
            on_its_way(Phase.SHIFTING),
            situation(sets=WHOLE),
            "traffic moves from old to new; it is given up at 12:09:00 UTC",
        ),
        (
            on_its_way(Phase.PAUSED, step=2, held=Phase.SHIFTING),
            situation(**{**MIXED, "sets": {"old": pods(3), "new": pods(1, ready=0)}}),
            "paused by command while shifting new, until somebody promotes; it is given up at 12:09:00 UTC",
        ),
        (on_its_way(Phase.FINALIZING), situation(sets=WHOLE), "new gets all traffic; the pods of old leave"),
        (
            on_its_way(Phase.FINALIZING),
            situation(sets=WHOLE, at_once=True, scale_down_delay=90.0),
            "new gets all traffic; the pods of old leave at 12:00:30 UTC",
        ),
        (
            on_its_way(Phase.FINALIZING),
            situation(sets={"old": pods(4), "new": pods(4, ready=3)}, at_once=True),
            "new gets all traffic; the pods of old stay while 3 of 4 of it are ready; it is given up at 12:09:00 UTC",
        ),
        (State(stable="old"), situation(replicas=0), "no pod is wanted"),
        (on_its_way(Phase.ABORTING), situation(), "new is no longer wanted; traffic goes back to old"),
        (on_its_way(Phase.ABORTING, refused=REFUSED), situation(), "new: 2 instead of 1; traffic goes back to old"),
        (
            State(Phase.ABORTED, stable="old", refused=REFUSED),
            situation(),
            "new: 2 instead of 1; old gets all traffic until the spec asks for another revision or somebody retries",
        ),
        (
            State(Phase.ABORTED, refused=REFUSED),
            situation(),
            "new: 2 instead of 1; nothing gets traffic until the spec asks for another revision or somebody retries",
        ),
    ],
)
def test_people_are_told_what_is_awaited(state: State, seen: Situation, message: str) -> None:
    assert words.of_state(state, seen) == message


@pytest.mark.parametrize(
    ("before", "after", "events"),
    [
        (State(stable="old"), on_its_way(Phase.PREPARING), (Event("RolloutStarted", "words"),)),
        (on_its_way(Phase.FINALIZING), State(stable="new"), (Event("RolloutComplete", "words"),)),
        (State(Phase.ABORTED, stable="old"), State(stable="old"), ()),
        (on_its_way(Phase.SHIFTING), on_its_way(Phase.ABORTING), (Event("RolloutAborting", "words"),)),
        (
            on_its_way(Phase.SHIFTING),
            on_its_way(Phase.ABORTING, refused=REFUSED),
            (Event("RolloutAborting", "words", warning=True),),
        ),
        (
            on_its_way(Phase.ABORTING),
            State(Phase.ABORTED, stable="old"),
            (Event("RolloutAborted", "words", warning=True),),
        ),
    ],
)
def test_an_event_tells_of_each_change(before: State, after: State, events: tuple[Event, ...]) -> None:
    assert words.of_change(before, after, "words") == events
