from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceserve_operator.domain import EVERYBODY, Traffic
from onceserve_operator.rollout import split
from unit.operator.rollout.situations import pods, situation


@pytest.mark.parametrize(
    ("facts", "weight", "pair"),
    [
        ({"replicas": 4}, 0, (4, 0)),
        ({"replicas": 4}, 100, (0, 4)),
        ({"replicas": 4}, 25, (3, 1)),
        ({"replicas": 4}, 20, (4, 1)),
        ({"replicas": 4}, 1, (4, 1)),
        ({"replicas": 4}, 99, (1, 4)),
        ({"replicas": 10}, 30, (7, 3)),
        ({"replicas": 10, "surge": 3}, 8, (12, 1)),
        ({"replicas": 1}, 10, (1, 1)),
        ({"replicas": 1, "surge": 0}, 50, (1, 0)),
        ({"replicas": 2, "surge": 0}, 90, (1, 1)),
        ({"replicas": 4, "routed": True}, 0, (4, 0)),
        ({"replicas": 4, "routed": True}, 26, (4, 2)),
        ({"replicas": 4, "routed": True}, 100, (4, 4)),
    ],
)
def test_pods_are_shared_as_near_to_the_weight_as_can_be(
    facts: dict[str, Any], weight: int, pair: tuple[int, int]
) -> None:
    assert split.shares(situation(**facts), weight) == pair


@given(st.integers(2, 60), st.integers(0, 20), st.integers(1, 99))
def test_no_other_pair_is_nearer(replicas: int, surge: int, weight: int) -> None:
    old, new = split.shares(situation(replicas=replicas, surge=surge), weight)
    assert min(old, new) >= 1
    assert replicas <= old + new <= replicas + surge

    def error(old: int, new: int) -> float:
        return abs(100 * new / (old + new) - weight)

    others = ((total - new, new) for total in range(replicas, replicas + surge + 1) for new in range(1, total))
    assert error(old, new) <= min(error(*other) for other in others) + 1e-9


@pytest.mark.parametrize(
    ("facts", "weight", "number"),
    [
        ({}, 100, 1),
        ({"surge": 3}, 100, 3),
        ({"surge": 3}, 25, 1),
        ({"surge": 0, "unavailable": 2}, 100, 2),
        ({"at_once": True}, 100, 4),
        ({"routed": True}, 50, 2),
    ],
)
def test_so_many_pods_come_up_before_traffic(facts: dict[str, Any], weight: int, number: int) -> None:
    assert split.first(situation(**facts), weight) == number


def test_the_old_pods_leave_by_what_is_right_and_stays() -> None:
    seen = situation(traffic=EVERYBODY, sets={"old": pods(4), "new": pods(2, verified=1)})
    assert split.towards(seen, old=("old", 0), new=("new", 4), traffic=EVERYBODY) == {"old": 3, "new": 2}
    seen = situation(traffic=EVERYBODY, sets={"old": pods(4), "new": pods(3, desired=1)})
    assert split.towards(seen, old=("old", 0), new=("new", 4), traffic=EVERYBODY) == {"old": 3, "new": 1}


def test_pods_leave_neither_before_nor_after_the_service_is_told() -> None:
    seen = situation(traffic=Traffic("old"), sets={"old": pods(4), "new": pods(4)})
    wanted = split.towards(seen, old=("old", 0), new=("new", 0), traffic=Traffic("new"))
    assert wanted == {"old": 4, "new": 4}
