from datetime import timedelta
from typing import Any

import pytest

from onceserve_operator.api.rollout import Refusal
from onceserve_operator.domain import EVERYBODY, NOBODY, Measured, Problem, Traffic
from onceserve_operator.rollout import aims, machine, state, words
from onceserve_operator.rollout.phases import Phase
from onceserve_operator.rollout.recall import recalled
from onceserve_operator.rollout.state import State
from onceserve_operator.rollout.steps import ALL, Wait, Weight
from unit.operator.rollout.situations import NOW, on_its_way, pods, situation

REFUSED = (Refusal(revision="new", reason="WrongAnswer", message="wrong"),)
HOUR = timedelta(hours=1)


def after(before: State, **facts: Any) -> State:
    return machine.advance(before, situation(**facts))[0]


def test_a_deadline_names_what_stands_in_the_way() -> None:
    late = on_its_way(Phase.PREPARING, progressed=NOW - HOUR)
    [refusal] = after(late).refused
    assert (refusal.reason, refusal.message) == ("ProgressDeadlineExceeded", "no progress for 600 s")
    stuck = {"old": pods(4), "new": pods(1, ready=0, verified=0, trouble=Problem("ImagePull", "no such image"))}
    [refusal] = after(late, sets=stuck).refused
    assert (refusal.reason, refusal.message) == ("ImagePull", "no progress for 600 s: no such image")


def test_a_switch_is_over_when_the_old_pods_answer_nobody_any_more() -> None:
    switched = on_its_way(Phase.FINALIZING)
    facts: dict[str, Any] = {"sets": {"new": pods(4)}, "traffic": Traffic("new"), "at_once": True}
    draining = {**facts, "drained_by": NOW + timedelta(seconds=20)}
    assert after(switched, **draining).phase is Phase.FINALIZING
    assert words.due(switched, situation(**draining)) == 20
    assert after(switched, **{**draining, "at_once": False}).phase is Phase.STABLE
    assert after(switched, **facts).phase is Phase.STABLE


def test_an_operator_that_was_away_asks_before_it_gives_up() -> None:
    late = on_its_way(Phase.VERIFYING, progressed=NOW - HOUR, ready=2)
    asked = {"old": pods(4), "new": pods(1, verified=0)}
    assert after(late, sets=asked).phase is Phase.ABORTING
    unasked = {"old": pods(4), "new": pods(1, verified=0, unasked=1)}
    again = after(late, sets=unasked)
    assert (again.phase, again.ready) == (Phase.VERIFYING, 1)
    assert after(again, sets={"old": pods(4), "new": pods(1)}).phase is Phase.SHIFTING


def test_verifying_anew_is_progress_in_mid_shift() -> None:
    late = on_its_way(Phase.SHIFTING, progressed=NOW - HOUR, ready=4)
    unasked = {"old": pods(2), "new": pods(2, verified=0, unasked=2)}
    again = after(late, sets=unasked, traffic=EVERYBODY)
    assert (again.phase, again.progressed) == (Phase.SHIFTING, NOW - HOUR)
    again = after(again, sets={"old": pods(2), "new": pods(2)}, traffic=EVERYBODY)
    assert (again.phase, again.progressed) == (Phase.SHIFTING, NOW)


def test_what_another_clock_has_written_makes_nothing_late() -> None:
    late = on_its_way(Phase.PREPARING, progressed=NOW - HOUR)
    assert after(late, seen_since=NOW - timedelta(minutes=9)).phase is Phase.PREPARING
    assert after(late, seen_since=NOW - timedelta(minutes=10)).phase is Phase.ABORTING
    assert words.due(late, situation(seen_since=NOW)) == 600


def test_nothing_is_given_up_where_there_is_no_way_back() -> None:
    late = on_its_way(Phase.PREPARING, stable=None, progressed=NOW - HOUR)
    assert after(late, sets={}, traffic=NOBODY).phase is Phase.PREPARING


def test_what_cannot_come_back_leaves_what_was_found_right() -> None:
    late = on_its_way(Phase.ABORTING, wanted="third", revision="new", progressed=NOW - HOUR, ready=2)
    seen = {"wanted": "third", "known": ("third", "new", "old"), "traffic": EVERYBODY}
    gone = {"old": pods(4, ready=1, verified=1), "new": pods(2)}
    stays = after(late, **seen, sets=gone)
    assert (stays.phase, stays.stable, stays.revision) == (Phase.PREPARING, "new", "third")
    wrong = on_its_way(Phase.ABORTING, progressed=NOW - HOUR, refused=REFUSED)
    assert after(wrong, traffic=EVERYBODY, sets=gone).phase is Phase.ABORTING


def test_who_asks_for_another_revision_need_not_wait_for_one_without_pods() -> None:
    going_back = on_its_way(Phase.ABORTING, wanted="third", progressed=NOW)
    seen = {"wanted": "third", "known": ("third", "new", "old"), "traffic": EVERYBODY}
    dead = {"old": pods(4, ready=0, verified=0), "new": pods(2)}
    moves = after(going_back, **seen, sets=dead)
    assert (moves.phase, moves.stable, moves.revision) == (Phase.PREPARING, "new", "third")
    weak = {"old": pods(4, ready=1, verified=1), "new": pods(2)}
    assert after(going_back, **seen, sets=weak).phase is Phase.ABORTING


def test_pods_that_are_lost_in_a_pause_must_be_back_in_time() -> None:
    steps = (Weight(50), Wait(), Weight(100))
    short: dict[str, Any] = {
        "steps": steps,
        "traffic": EVERYBODY,
        "sets": {"old": pods(4), "new": pods(2, ready=0, verified=0)},
    }
    paused = after(on_its_way(Phase.PAUSED, step=1, progressed=None), **short)
    assert (paused.phase, paused.progressed) == (Phase.PAUSED, NOW)
    assert after(paused, **short, now=NOW + timedelta(minutes=9)) == paused
    assert after(paused, **{**short, "sets": {"old": pods(2), "new": pods(2)}}).progressed is None
    assert after(paused, **short, now=NOW + timedelta(minutes=10)).phase is Phase.ABORTING
    held = on_its_way(Phase.PAUSED, step=2, held=Phase.SHIFTING, progressed=NOW - HOUR)
    assert after(held, **short).phase is Phase.ABORTING
    coming_up = on_its_way(Phase.PAUSED, held=Phase.VERIFYING, progressed=NOW - HOUR)
    assert after(coming_up, **{**short, "traffic": Traffic("old")}).phase is Phase.PAUSED


def test_who_has_all_traffic_and_lost_its_pods_is_given_up_while_the_old_ones_stand() -> None:
    switched = on_its_way(Phase.FINALIZING)
    facts: dict[str, Any] = {"traffic": Traffic("new"), "at_once": True}
    gone = {"old": pods(4), "new": pods(4, ready=2, verified=2, trouble=Problem("OutOfMemory", "killed"))}
    lost = after(switched, **facts, sets=gone)
    assert lost.phase is Phase.ABORTING
    assert [(each.reason, each.message) for each in lost.refused] == [
        ("PodsLost", "2 of its pods are ready, 4 of old are: killed"),
    ]
    # One pod may be missing as in any disruption.
    weak = {"old": pods(4), "new": pods(4, ready=3, verified=3)}
    assert after(switched, **facts, sets=weak).phase is Phase.FINALIZING
    both = {"old": pods(4, ready=2, verified=2), "new": pods(4, ready=1, verified=1)}
    assert after(switched, **facts, sets=both).phase is Phase.FINALIZING
    nothing = {"old": pods(4, ready=1, verified=1), "new": pods(4, ready=0, verified=0)}
    assert after(switched, **facts, sets=nothing).phase is Phase.ABORTING


def test_the_end_of_an_abort_awaits_the_old_pods() -> None:
    giving_up = on_its_way(Phase.ABORTING, refused=REFUSED)
    assert after(giving_up, sets={"old": pods(4, ready=3, verified=3)}).phase is Phase.ABORTING
    assert after(giving_up, sets={"old": pods(3)}, unavailable=1).phase is Phase.ABORTING
    assert after(giving_up, sets={"old": pods(4, ready=3, verified=3)}, unavailable=1).phase is Phase.ABORTED


def test_a_new_wish_forgets_what_was_said_of_the_former() -> None:
    before = State(Phase.ABORTED, stable="old", wanted="other", refused=REFUSED, rollback_to="older")
    state = recalled(before, situation())
    assert (state.wanted, state.refused, state.rollback_to) == ("new", (), None)


def test_what_no_longer_exists_is_not_gone_back_to() -> None:
    before = State(stable="old", wanted="new", rollback_to="gone")
    assert recalled(before, situation()).rollback_to is None
    state = recalled(on_its_way(Phase.SHIFTING, stable="gone"), situation(traffic=Traffic("new")))
    assert (state.phase, state.stable, state.revision) == (Phase.STABLE, "new", None)


@pytest.mark.parametrize(
    ("traffic", "stable"),
    [
        (Traffic("old"), "old"),
        (Traffic("gone"), None),
        (NOBODY, None),
        (None, None),
        (EVERYBODY, "older"),
    ],
)
def test_without_a_status_the_service_tells_what_serves(traffic: Traffic | None, stable: str | None) -> None:
    sets = {"old": pods(1), "older": pods(2)}
    assert recalled(State(), situation(traffic=traffic, sets=sets)).stable == stable


def test_of_two_that_serve_alike_the_older_one_is_the_one_to_return_to() -> None:
    sets = {"new": pods(1), "old": pods(1)}
    assert recalled(State(), situation(traffic=EVERYBODY, sets=sets)).stable == "old"


def test_a_clock_that_was_set_back_stops_nothing_for_longer() -> None:
    before = on_its_way(Phase.PAUSED, since=NOW + HOUR, progressed=NOW + HOUR)
    state = recalled(before, situation())
    assert (state.since, state.progressed) == (NOW, NOW)


def test_a_step_that_no_longer_exists_is_the_last_one() -> None:
    assert recalled(on_its_way(Phase.SHIFTING, step=7), situation()).step == 0


def test_a_step_that_is_no_longer_a_pause_is_done() -> None:
    steps = (Weight(20), Weight(50), Weight(100))
    sets = {"old": pods(3), "new": pods(1)}
    state = after(on_its_way(Phase.PAUSED, step=1), steps=steps, sets=sets, traffic=EVERYBODY)
    assert (state.phase, state.step) == (Phase.SHIFTING, 1)


@pytest.mark.parametrize(
    "remembered",
    [
        State(),
        State(Phase.ABORTED, stable="old", wanted="new", refused=REFUSED, command="retry 1"),
        on_its_way(Phase.SHIFTING, step=3, ready=4, taken="20 %, 60 s, 50 %, wait"),
        on_its_way(Phase.PAUSED, held=Phase.SHIFTING, rollback_to="new"),
    ],
)
def test_all_is_remembered(remembered: State) -> None:
    rollout = state.write(remembered, 25, "words").model_dump(mode="json", by_alias=True, exclude_defaults=True)
    status = {"rollout": rollout, "stableRevision": remembered.stable, "targetRevision": remembered.wanted}
    assert state.read(status) == remembered


@pytest.mark.parametrize("rollout", [{}, {"phase": "Dancing", "message": ""}, {"phase": "Stable"}, "Stable", None])
def test_what_another_release_wrote_is_begun_anew(rollout: object) -> None:
    status = {"rollout": rollout, "stableRevision": "old", "targetRevision": "new"}
    assert state.read(status) == State(stable="old", wanted="new")


CAREFUL = (Weight(20), Wait(), Weight(60), Weight(100))


@pytest.mark.parametrize(
    ("before", "facts", "phase", "step"),
    [
        # Where it stood at 50 % it may have 20 now, and waits there.
        (on_its_way(Phase.PAUSED, step=3, taken="20 %, 10 s, 50 %, 60 s"), {}, Phase.SHIFTING, 0),
        (on_its_way(Phase.SHIFTING, step=0, taken="100 %"), {}, Phase.SHIFTING, 0),
        (on_its_way(Phase.SHIFTING, step=0, taken="70 %"), {"sets": {"new": pods(4)}}, Phase.SHIFTING, 2),
        (on_its_way(Phase.PAUSED, step=3, held=Phase.SHIFTING, taken="50 %, 60 %, wait, 70 %"), {}, Phase.PAUSED, 0),
        (on_its_way(Phase.VERIFYING, step=2, taken="70 %, 80 %, 100 %"), {"traffic": Traffic("old")}, None, 0),
        (on_its_way(Phase.PAUSED, step=1, taken="0 %, wait"), {"steps": (Wait(), Weight(100))}, Phase.SHIFTING, 0),
        # Later steps may change at any time.
        (on_its_way(Phase.PAUSED, step=1, taken="20 %, wait"), {}, Phase.PAUSED, 1),
        (on_its_way(Phase.FINALIZING, step=1, taken="50 %, 100 %"), {}, Phase.FINALIZING, 1),
    ],
)
def test_changed_steps_give_no_more_traffic_than_there_is(
    before: State, facts: dict[str, Any], phase: Phase | None, step: int
) -> None:
    halves = {"sets": {"old": pods(2), "new": pods(2)}, "traffic": EVERYBODY, "steps": CAREFUL}
    state = recalled(before, situation(**{**halves, **facts}))
    assert (state.phase, state.step) == (phase or before.phase, step)


def test_a_pause_at_the_first_step_is_reached_from_shifting() -> None:
    sets = {"old": pods(4), "new": pods(1)}
    paused = after(on_its_way(Phase.SHIFTING), steps=(Wait(), Weight(100)), sets=sets)
    assert (paused.phase, paused.step) == (Phase.PAUSED, 0)


def test_changed_steps_are_no_reprieve() -> None:
    paused = on_its_way(Phase.PAUSED, step=1, taken="20 %, wait")
    slow = Measured("slow", Problem("LatencyP99", "slow"))
    shared: dict[str, Any] = {"sets": {"old": pods(4), "new": pods(1)}, "traffic": EVERYBODY, "measured": slow}
    given_up = after(paused, **shared, steps=(Weight(ALL),))
    assert (given_up.phase, given_up.refused[0].reason) == (Phase.ABORTING, "LatencyP99")
    superseded = after(paused, **shared, steps=(Weight(ALL),), wanted="older")
    assert superseded.refused == ()


def test_what_was_found_wrong_is_reached_by_nobody_once_it_is_alone() -> None:
    alone = situation(sets={"new": pods(1)}, traffic=EVERYBODY, known=("new",))
    assert aims.safe_traffic(State(Phase.ABORTED, wanted="new", refused=REFUSED), alone) == NOBODY
    both = situation(sets={"new": pods(1), "older": pods(1)}, traffic=EVERYBODY)
    assert aims.safe_traffic(State(Phase.ABORTED, wanted="new", refused=REFUSED), both) == EVERYBODY
