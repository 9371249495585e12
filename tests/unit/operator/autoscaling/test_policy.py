import math
from random import Random

import pytest

from onceserve_operator.autoscaling import policy
from onceserve_operator.autoscaling.load import Reading
from onceserve_operator.autoscaling.policy import DELAY, PERIOD, STABLE_WINDOW
from unit.operator.autoscaling.driven import Driven, asked, turns

LONG = STABLE_WINDOW + DELAY + 10


def test_a_load_step_is_followed_within_four_seconds_and_in_full_within_six() -> None:
    driven = Driven(replicas=3)
    driven.hold(24, 120)
    before = driven.now
    while driven.replicas == 3:
        driven.look(120)
    assert driven.now - before <= 4
    driven.hold(120, 6)
    assert driven.replicas == 15


JITTER = 0.005
"""Seconds by which a look is late, now more and now less."""


def decided(replicas: int, used: float, phase: float) -> float:
    """Return how long after its step a rate is followed that rises to five times between two looks at the pods."""
    driven = Driven(replicas=replicas, autoscaling=asked("RequestsPerSecond", "100", least=replicas))
    late = Random(f"{replicas} {phase}")
    begun, rises, rate = driven.now, driven.now + 120 + phase * PERIOD, used * 100
    for number in range(100):
        at = driven.now = begun + number * PERIOD + late.uniform(0, JITTER)
        answered = rate * (at - begun) + 4 * rate * max(0, at - rises)
        if driven.see({f"pod-{each}": Reading(0, answered) for each in range(replicas)}).replicas > replicas:
            return at - rises
    pytest.fail("it is never followed")


@pytest.mark.parametrize("replicas", [1, 2, 3, 4, 10, 20])
def test_a_rate_that_steps_up_at_any_moment_is_followed_within_four_seconds(replicas: int) -> None:
    # With less than that there would be fewer pods, or the least that is asked for.
    used = max(0.5, 0.9 * (replicas - 1) / replicas)
    assert all(0 <= decided(replicas, used, phase / 20) <= 4 + JITTER for phase in range(20))


def test_the_cause_is_told_in_numbers() -> None:
    driven = Driven(replicas=3, autoscaling=asked(most=7))
    scaling = driven.look(56)
    assert (scaling.of, scaling.replicas, scaling.cause) == (3, 7, "56 concurrent requests, 8 each")


def test_fewer_pods_come_late_and_by_halves() -> None:
    driven = Driven(replicas=16)
    driven.hold(128, 120)
    seen = [(driven.now, driven.look(4).replicas) for _ in range(200)]
    start = seen[0][0]
    first = next(at for at, replicas in seen if replicas < 16)
    assert first - start >= DELAY
    eight = next(at for at, replicas in seen if replicas < 8)
    assert eight - first >= DELAY - PERIOD
    assert driven.replicas == 1
    assert turns(driven.taken) == 0


def test_after_a_start_nothing_goes_before_a_whole_window_has_been_seen() -> None:
    driven = Driven(replicas=10)
    driven.hold(0, STABLE_WINDOW - PERIOD)
    assert driven.replicas == 10
    driven.hold(0, LONG)
    assert driven.replicas < 10


def test_missing_samples_take_no_pod_away_and_are_told() -> None:
    driven = Driven(replicas=10)
    driven.hold(80, 120)
    for _ in range(300):
        scaling = driven.look(0, silent=10)
    assert (driven.replicas, scaling.active, scaling.reason) == (10, False, policy.SAMPLES_MISSING)


def test_one_silent_pod_takes_none_away_and_lets_more_come() -> None:
    driven = Driven(replicas=10)
    driven.hold(80, 120)
    for _ in range(100):
        scaling = driven.look(8, silent=1)
    assert (driven.replicas, scaling.active, scaling.reason) == (10, True, policy.SAMPLES_PARTIAL)
    for _ in range(3):
        driven.look(400, silent=1)
    assert driven.replicas > 10


def test_a_pod_that_is_silent_now_and_then_does_not_keep_the_others_forever() -> None:
    driven = Driven(replicas=10)
    for number in range(200):
        driven.look(8, silent=1 if number % 10 == 0 else 0)
    assert driven.replicas < 10


def test_without_a_ready_pod_the_number_stays_within_its_bounds() -> None:
    driven = Driven(replicas=1, autoscaling=asked(least=2))
    scaling = driven.see({})
    assert (scaling.replicas, scaling.cause, scaling.reason) == (2, "minReplicas is 2", policy.PODS_NOT_READY)
    for _ in range(200):
        driven.see({})
    assert driven.replicas == 2


def test_pods_that_are_not_ready_yet_are_not_asked_for_twice() -> None:
    driven = Driven(replicas=2)
    for _ in range(10):
        driven.look(48, ready=2)
    assert driven.replicas == 6


def test_bounds_that_change_act_at_once() -> None:
    driven = Driven(replicas=9)
    driven.hold(72, 120)
    driven.autoscaling = asked(most=4)
    scaling = driven.look(72)
    assert (scaling.replicas, scaling.cause) == (4, "maxReplicas is 4")
    assert driven.look(72).reason == policy.AT_MAXIMUM


def test_the_minimum_is_told() -> None:
    driven = Driven(replicas=3, autoscaling=asked(least=3))
    assert driven.hold(1, LONG).reason == policy.AT_MINIMUM


def test_what_a_person_sets_stays_for_a_while_unless_the_load_needs_more() -> None:
    driven = Driven(replicas=3)
    driven.hold(20, 200)
    driven.replicas = 12
    since = driven.now
    while driven.replicas == 12:
        driven.look(20)
    assert DELAY <= driven.now - since <= DELAY + 2 * PERIOD
    driven.hold(20, 200)
    driven.replicas = 1
    driven.hold(20, 2 * PERIOD)
    assert driven.replicas == 3


def test_a_decision_that_is_not_carried_out_is_made_again() -> None:
    driven = Driven(replicas=3)
    driven.hold(24, 120)
    for _ in range(5):
        scaling = driven.look(120, obey=False)
    assert (scaling.of, scaling.replicas) == (3, 15)


def test_no_more_than_five_times_the_ready_pods_come_at_once() -> None:
    assert Driven(replicas=4).look(100_000).replicas == 20
    assert Driven(replicas=1).look(100_000).replicas == 5


def test_what_was_stopped_for_a_minute_knows_nothing_of_it() -> None:
    driven = Driven(replicas=10)
    driven.hold(8, STABLE_WINDOW - PERIOD)
    driven.now += 600
    assert driven.look(8).replicas == 10


def test_two_sets_of_pods_in_a_rollout_count_together() -> None:
    driven = Driven(replicas=4, revisions=frozenset({"old", "new"}))
    for _ in range(100):
        driven.look(28, ready=5)
    assert driven.replicas == 4


# --- requests per second


def counted(driven: Driven, rate: float, total: dict[str, float]) -> int:
    """Look at pods that answer this many requests per second in all, at once."""
    readings: dict[str, Reading | None] = {}
    for number in range(driven.replicas):
        uid = f"pod-{number}"
        total[uid] = total.get(uid, 0) + rate * PERIOD / driven.replicas
        readings[uid] = Reading(0, total[uid], total[uid])
    return driven.see(readings).replicas


def test_requests_per_second_are_followed() -> None:
    driven = Driven(replicas=2, autoscaling=asked("RequestsPerSecond", "100"))
    total: dict[str, float] = {}
    for _ in range(60):
        counted(driven, 150, total)
    assert driven.replicas == 2
    for _ in range(6):
        counted(driven, 900, total)
    assert driven.replicas >= 8
    for _ in range(200):
        counted(driven, 90, total)
    assert driven.replicas == 1
    assert turns(driven.taken) == 1


def test_pods_that_are_new_are_no_pods_that_do_not_tell() -> None:
    driven = Driven(replicas=9, autoscaling=asked("RequestsPerSecond", "100"))
    reasons = set()
    # After a failover all are new, and while many come some are at every look.
    for number in range(20):
        pods = [f"pod-{each}" for each in range(9 + number)]
        reasons.add(driven.see({uid: Reading(0, 1000 * number) for uid in pods}, obey=False).reason)
    assert policy.SAMPLES_PARTIAL not in reasons


def test_a_pod_that_starts_anew_at_every_look_does_not_tell() -> None:
    driven = Driven(replicas=2, autoscaling=asked("RequestsPerSecond", "100"))
    for number in range(20):
        scaling = driven.see({"pod-0": Reading(0, 200 * number), "pod-1": Reading(0, 20 - number)})
    assert scaling.reason == policy.SAMPLES_PARTIAL


def test_a_counter_that_starts_anew_takes_no_pod_away() -> None:
    driven = Driven(replicas=9, autoscaling=asked("RequestsPerSecond", "100"))
    total: dict[str, float] = {}
    for _ in range(60):
        counted(driven, 900, total)
    for number in range(100):
        total.clear()
        counted(driven, 100 - number, total)
    assert driven.replicas == 9


# --- queue time


class Queues:
    """Pods that each take so many requests per second before they wait."""

    def __init__(self, replicas: int, each: float) -> None:
        self.driven = Driven(replicas=replicas, autoscaling=asked("QueueTime", "50ms"))
        self.each = each
        self.total: dict[str, Reading] = {}

    def look(self, rate: float, revisions: frozenset[str] = frozenset({"r"})) -> None:
        readings: dict[str, Reading | None] = {}
        share = rate * PERIOD / self.driven.replicas
        for number in range(self.driven.replicas):
            uid = f"pod-{number}"
            before = self.total.get(uid, Reading(0, 0, 0, 0))
            begun = min(share + before.inflight, self.each * PERIOD)
            left = before.inflight + share - begun
            wait = left / self.each + (0.2 if begun >= self.each * PERIOD else 0.001)
            self.total[uid] = Reading(left, before.answered + begun, before.begun + begun, before.waited + begun * wait)
            readings[uid] = self.total[uid]
        self.driven.revisions = revisions
        self.driven.see(readings)


def test_waiting_learns_what_a_pod_takes_and_keeps_to_it() -> None:
    queues = Queues(replicas=2, each=100)
    for _ in range(30):
        queues.look(100)
    for _ in range(60):
        queues.look(500)
    enough = queues.driven.replicas
    assert 6 <= enough <= 12
    for _ in range(300):
        queues.look(500)
    # Never again fewer than what is known to be too few.
    assert 6 <= queues.driven.replicas <= enough
    assert turns(queues.driven.taken) <= 2


def test_without_experience_one_pod_of_four_is_tried_without_at_a_time() -> None:
    queues = Queues(replicas=8, each=100)
    seen = []
    for _ in range(70):
        queues.look(10)
        seen.append(queues.driven.replicas)
    assert sorted(set(seen), reverse=True)[:2] == [8, 6]


def test_in_a_rollout_waiting_adds_pods_and_takes_none_away() -> None:
    both = frozenset({"old", "new"})
    queues = Queues(replicas=4, each=100)
    for _ in range(150):
        queues.look(10, both)
    assert queues.driven.replicas == 4
    for _ in range(10):
        queues.look(1000, both)
    assert queues.driven.replicas > 4


@pytest.mark.parametrize("metric", ["Concurrency", "RequestsPerSecond"])
def test_a_load_of_whole_pods_is_not_rounded_up(metric: str) -> None:
    driven = Driven(replicas=3, autoscaling=asked(metric, "0.1"))
    assert math.ceil(driven.look(0.3).replicas) == 3
