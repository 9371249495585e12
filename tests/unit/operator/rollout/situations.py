"""Situations in which nothing is out of the ordinary, for tests of single functions."""

from datetime import UTC, datetime, timedelta
from typing import Any

from onceserve_operator.domain import Traffic
from onceserve_operator.rollout.phases import Phase
from onceserve_operator.rollout.situation import PodSet, Situation
from onceserve_operator.rollout.state import State
from onceserve_operator.rollout.steps import ALL, Weight

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def pods(number: int, **facts: Any) -> PodSet:
    """Return pods that are all ready and verified."""
    return PodSet(**{"desired": number, "pods": number, "ready": number, "verified": number, **facts})


def situation(**facts: Any) -> Situation:
    """Return a situation in which `old` serves with 4 pods and `new` is wanted, pod by pod."""
    ordinary: dict[str, Any] = {
        "now": NOW,
        "wanted": "new",
        "known": ("new", "old", "older"),
        "replicas": 4,
        "surge": 1,
        "unavailable": 0,
        "available": 3,
        "steps": (Weight(ALL),),
        "at_once": False,
        "routed": False,
        "scale_down_delay": 0.0,
        "deadline": 600.0,
        "sets": {"old": pods(4)},
        "traffic": Traffic("old"),
    }
    return Situation(**{**ordinary, **facts})


def on_its_way(phase: Phase, **facts: Any) -> State:
    """Return the state in which `new` has been on its way for a minute."""
    since = NOW - timedelta(minutes=1)
    ordinary: dict[str, Any] = {
        "stable": "old", "wanted": "new", "revision": "new", "started": since, "since": since, "progressed": since,
    }  # fmt: skip
    return State(phase, **{**ordinary, **facts})
