"""What holds for whatever loads, samples and hands."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onceserve_operator.autoscaling.policy import PERIOD
from unit.operator.autoscaling.driven import Driven, asked, turns

LOADS = st.lists(st.floats(0, 2000), min_size=1, max_size=120)
LOOKS = st.lists(
    st.tuples(st.floats(0, 2000), st.integers(0, 40), st.integers(0, 40), st.floats(0.5, 90)), min_size=1, max_size=120
)

pytestmark = pytest.mark.timeout(60)


@settings(max_examples=150, deadline=None)
@given(LOOKS, st.integers(0, 50))
def test_bounds_hold_and_missing_samples_take_nothing_away(
    looks: list[tuple[float, int, int, float]], start: int
) -> None:
    driven = Driven(replicas=start + 1, autoscaling=asked(least=2, most=40))
    for load, silent, ready, pause in looks:
        before = driven.replicas
        driven.look(load, silent=silent, ready=max(1, ready))
        driven.now += pause
        assert 2 <= driven.replicas <= 40
        if silent:
            assert driven.replicas >= min(before, 40)


@settings(max_examples=150, deadline=None)
@given(LOADS, st.data())
def test_more_load_never_leads_to_fewer_pods(loads: list[float], data: st.DataObject) -> None:
    more = [load + data.draw(st.floats(0, 500)) for load in loads]
    low, high = Driven(replicas=10), Driven(replicas=10)
    for one, other in zip(loads, more, strict=True):
        low.look(one, obey=False)
        high.look(other, obey=False)
    assert high.taken[-1] >= low.taken[-1]


@settings(max_examples=100, deadline=None)
@given(st.floats(1, 1000), st.integers(1, 60), st.lists(st.floats(0.95, 1.05), min_size=200, max_size=200))
def test_a_constant_load_with_noise_is_not_followed_back_and_forth(load: float, start: int, noise: list[float]) -> None:
    driven = Driven(replicas=start, autoscaling=asked(most=200))
    for each in noise:
        driven.look(load * each)
    assert turns(driven.taken) <= 1
    enough = load * 0.95 / 8
    assert driven.replicas >= enough


@settings(max_examples=60, deadline=None)
@given(st.integers(4, 90), st.floats(1.5, 6), st.integers(2, 6))
def test_a_square_wave_turns_no_more_than_twice_for_each_step(half: int, height: float, steps: int) -> None:
    driven = Driven(replicas=3, autoscaling=asked(most=200))
    driven.hold(20, 150)
    driven.taken.clear()
    for step in range(steps):
        driven.hold(20 * height if step % 2 == 0 else 20, half * PERIOD)
    driven.hold(20, 400)
    assert turns(driven.taken) <= 2 * steps


def test_the_same_looks_lead_to_the_same_decisions() -> None:
    one = Driven(replicas=3)
    one.hold(24, 120)
    other = replace(one, taken=[])
    assert one.look(100) == other.look(100)
