from collections.abc import Hashable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceserve_serving.batching.flush import ALONE, BURST, Limits, cut
from onceserve_serving.engine.runner import LOOP_BUDGET

NEVER = 1e9


@dataclass(eq=False)
class Waiter:
    key: Hashable = "a"
    rows: int = 1
    seconds: float = 0.0
    arrived: float = 0.0
    deadline: float = NEVER


@st.composite
def queues(draw: st.DrawFn) -> list[Waiter]:
    one = st.builds(
        Waiter,
        key=st.sampled_from(["a", "b", ALONE]),
        rows=st.integers(1, 6),
        seconds=st.sampled_from([0.0, LOOP_BUDGET / 3, BURST / 3, 2 * BURST]),
        arrived=st.floats(0, 10),
        deadline=st.sampled_from([5.0, 15.0, NEVER]),
    )
    return sorted(draw(st.lists(one, max_size=12)), key=lambda waiter: waiter.arrived)


@given(queues(), st.integers(1, 8), st.sampled_from([0.0, 1.0]), st.floats(10, 20))
def test_everybody_goes_stays_or_is_too_late_and_the_limits_hold(
    waiting: list[Waiter], rows: int, delay: float, now: float
) -> None:
    expired, batch, rest, again = cut(waiting, Limits(rows, delay), now)
    assert sorted(map(id, [*expired, *batch, *rest])) == sorted(map(id, waiting))
    assert all((waiter in expired) == (waiter.deadline <= now) for waiter in waiting)
    assert len({waiter.key for waiter in batch}) <= 1
    alone = bool(batch) and batch[0].key is ALONE
    assert len(batch) <= 1 or (
        sum(one.seconds for one in batch) <= BURST if alone else sum(one.rows for one in batch) <= rows
    )
    assert [waiter for waiter in waiting if waiter in batch] == batch
    assert (again is not None) == (not batch and bool(rest))


@given(queues(), st.integers(1, 8))
def test_without_a_delay_whoever_waits_longest_goes_at_once(waiting: list[Waiter], rows: int) -> None:
    found = cut(waiting, Limits(rows), 10.0)
    living = [waiter for waiter in waiting if waiter.deadline > 10.0]
    assert found.batch[:1] == living[:1]


@given(queues(), st.integers(1, 8))
def test_nobody_overtakes_within_a_key(waiting: list[Waiter], rows: int) -> None:
    found = cut(waiting, Limits(rows), 10.0)
    left = [waiter for waiter in found.rest if found.batch and waiter.key == found.batch[-1].key]
    assert not left or waiting.index(found.batch[-1]) < waiting.index(left[0])


@pytest.mark.parametrize(
    ("rows", "now", "goes"),
    [([1, 1], 0.5, 0), ([1, 1], 1.0, 2), ([2, 2], 0.5, 2), ([5], 0.5, 1), ([3, 3], 0.5, 1)],
)
def test_with_a_delay_a_batch_goes_when_it_is_full_or_due(rows: list[int], now: float, goes: int) -> None:
    found = cut([Waiter(rows=one) for one in rows], Limits(4, 1.0), now)
    assert (len(found.batch), found.again) == (goes, None if goes else 1.0)


def test_a_full_batch_does_not_wait_for_one_that_is_not() -> None:
    waiting = [Waiter("a"), Waiter("b", 4)]
    assert cut(waiting, Limits(4, 1.0), 0.5).batch == waiting[1:]


def test_it_looks_again_when_somebody_is_too_late() -> None:
    assert cut([Waiter(deadline=0.7)], Limits(4, 1.0), 0.5).again == 0.7


@given(queues())
def test_those_that_go_with_none_overtake_nobody(waiting: list[Waiter]) -> None:
    found = cut(waiting, Limits(4), 10.0)
    living = [waiter for waiter in waiting if waiter.deadline > 10.0]
    assert not living or living[0].key is not ALONE or living[: len(found.batch)] == found.batch


@pytest.mark.parametrize(
    ("seconds", "goes"),
    [
        ([BURST / 3] * 5, 3),
        ([2 * BURST] * 2, 1),
        ([BURST / 3, 2 * BURST], 1),
        ([LOOP_BUDGET / 4] * 9, 4),
        ([LOOP_BUDGET / 2, BURST / 3], 1),
    ],
)
def test_as_many_follow_one_another_as_take_no_long_time(seconds: list[float], goes: int) -> None:
    waiting = [Waiter(ALONE, seconds=each) for each in seconds]
    assert cut(waiting, Limits(4, 1.0), 0.0).batch == waiting[:goes]
