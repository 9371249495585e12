"""How many pods there should be: pure, and the same in the operator and in the simulator.

As in Knative, the mean of a stable window decides, and that of a panic window where load rises steeply. Pods are taken
away late and a half at a time, and only for a load that all pods have told of. All times are seconds of one clock.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from onceserve_operator import quantities
from onceserve_operator.api.autoscaling import Autoscaling, ScalingMetric
from onceserve_operator.autoscaling import capacity, demand
from onceserve_operator.autoscaling.capacity import Capacity
from onceserve_operator.autoscaling.demand import Demand
from onceserve_operator.autoscaling.load import Point, Readings, point
from onceserve_operator.domain import Scaling

PERIOD: Final = 2.0
"""Between two looks at the pods."""
STABLE_WINDOW: Final = 60.0
PANIC_WINDOW: Final = 3.0
"""Has two looks in it: halfway between two and three, since none comes to the moment."""
PANIC: Final = 2.0
"""Times what the ready pods should have: from there on the panic window decides."""
DELAY: Final = 60.0
"""How long fewer pods must have been enough before some go, and how long what a person sets stays."""
FASTEST_UP: Final = 5
"""Times the ready pods that there may be at most at once."""
LEAST_UP: Final = 4
"""Pods that may be added to the ready ones in any case."""
FASTEST_DOWN: Final = 0.5
"""Share of the pods of the last delay that stays."""
COVERED: Final = 0.8
"""Share of the stable window that all pods must have told of before some go."""

FOLLOWING: Final = "Following"
AT_MAXIMUM: Final = "AtMaximum"
AT_MINIMUM: Final = "AtMinimum"
SAMPLES_MISSING: Final = "SamplesMissing"
SAMPLES_PARTIAL: Final = "SamplesPartial"
PODS_NOT_READY: Final = "PodsNotReady"


@dataclass(frozen=True, slots=True)
class Situation:
    """What is asked, at one moment."""

    autoscaling: Autoscaling
    replicas: int
    """Pods that are asked for."""
    readings: Readings
    revisions: frozenset[str]
    """Those of the pods that are read."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What was found at a moment."""

    at: float
    enough: int
    """Pods that would have been enough."""
    wanted: int
    """Pods that were wanted, whatever the bounds."""
    replicas: int
    """Pods that were asked for."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered from decision to decision."""

    began_at: float | None = None
    looked_at: float = 0
    readings: Readings | None = None
    points: tuple[Point, ...] = ()
    advice: tuple[Advice, ...] = ()
    panicked_at: float = -math.inf
    decided: int | None = None
    disturbed_at: float = -math.inf
    """When somebody else set the number of pods."""
    capacity: Capacity = capacity.UNKNOWN


Moment = TypeVar("Moment", Point, Advice)


def decide(memory: Memory, situation: Situation, now: float) -> tuple[Memory, Scaling]:
    """Return what is to be remembered, and how many pods there should be and why."""
    memory = _looked(memory, situation, now)
    panic = _since(memory.points, now - PANIC_WINDOW)
    memory = replace(memory, capacity=_learnt(memory.capacity, situation, panic, now))
    most = max((each.replicas for each in memory.advice), default=0)
    asked = demand.of(situation.autoscaling, memory.points, panic, memory.capacity, max(most, situation.replicas))
    if asked.burst >= PANIC * max(1, memory.points[-1].pods):
        memory = replace(memory, panicked_at=now)
    panics = now - memory.panicked_at < STABLE_WINDOW
    wanted = max(asked.stable, asked.burst if panics else 0)
    advice = Advice(now, asked.enough, wanted, situation.replicas)
    memory = replace(memory, advice=(*_since(memory.advice, now - DELAY), advice))
    replicas = _bounded(_moved(memory, situation, wanted, now, panics=panics), situation.autoscaling)
    active, reason, message = _standing(memory, situation, panic)
    cause = _cause(situation, replicas, asked)
    return replace(memory, decided=replicas), Scaling(active, reason, message, situation.replicas, replicas, cause)


def _looked(memory: Memory, situation: Situation, now: float) -> Memory:
    first = memory.began_at is None
    newest = point(memory.readings or {}, situation.readings, now, PERIOD if first else now - memory.looked_at)
    ours = not memory.advice or situation.replicas in {memory.advice[-1].replicas, memory.decided}
    return replace(
        memory,
        began_at=now if first else memory.began_at,
        looked_at=now,
        readings=situation.readings,
        points=(*_since(memory.points, now - STABLE_WINDOW), newest),
        disturbed_at=memory.disturbed_at if ours else now,
    )


def _learnt(known: Capacity, situation: Situation, panic: tuple[Point, ...], now: float) -> Capacity:
    if situation.autoscaling.metric is not ScalingMetric.QUEUE_TIME:
        return capacity.UNKNOWN
    target = quantities.seconds(situation.autoscaling.target)
    return capacity.learn(known, capacity.wait(panic), target, situation.revisions, now)


def _moved(memory: Memory, situation: Situation, wanted: int, now: float, *, panics: bool) -> int:
    replicas = situation.replicas
    if wanted > replicas:
        ready = memory.points[-1].pods
        return max(replicas, min(wanted, max(FASTEST_UP * ready, ready + LEAST_UP)))
    if panics or not _may_fall(memory, situation, now):
        return replicas
    slowest = math.ceil(FASTEST_DOWN * max(each.replicas for each in memory.advice))
    return min(replicas, max(slowest, *(max(each.enough, each.wanted) for each in memory.advice)))


def _may_fall(memory: Memory, situation: Situation, now: float) -> bool:
    metric, began = situation.autoscaling.metric, memory.began_at or now
    whole = [each for each in memory.points if demand.counts(metric, each)]
    return (
        whole[-1:] == list(memory.points[-1:])
        and sum(each.seconds for each in whole) >= COVERED * STABLE_WINDOW
        and now - began >= STABLE_WINDOW
        and now - memory.disturbed_at >= DELAY
        # What pods of two revisions can take together is not known.
        and (metric is not ScalingMetric.QUEUE_TIME or len(situation.revisions) == 1)
    )


def _bounded(replicas: int, autoscaling: Autoscaling) -> int:
    return max(autoscaling.min_replicas, min(replicas, autoscaling.max_replicas))


def _since(moments: Iterable[Moment], start: float) -> tuple[Moment, ...]:
    return tuple(each for each in moments if each.at > start)


def _standing(memory: Memory, situation: Situation, panic: tuple[Point, ...]) -> tuple[bool, str, str]:
    """Return whether it can act, a reason and words, which stay the same while nothing happens."""
    autoscaling = situation.autoscaling
    if not memory.points[-1].pods:
        return False, PODS_NOT_READY, "No pod is ready that could be asked how busy it is"
    if not any(each.known for each in panic):
        return False, SAMPLES_MISSING, "No pod tells how busy it is: the number of pods stays"
    if not any(demand.tells(autoscaling.metric, each) for each in panic):
        return True, SAMPLES_PARTIAL, "Some pods do not tell how busy they are: there may be more, not fewer"
    if max(each.wanted for each in memory.advice) > autoscaling.max_replicas:
        return True, AT_MAXIMUM, f"The load asks for more pods than maxReplicas, {autoscaling.max_replicas}"
    if max(each.enough for each in memory.advice) < autoscaling.min_replicas:
        return True, AT_MINIMUM, f"The load asks for fewer pods than minReplicas, {autoscaling.min_replicas}"
    return True, FOLLOWING, f"The number of pods follows {autoscaling.metric}, {autoscaling.target} each"


def _cause(situation: Situation, replicas: int, asked: Demand) -> str:
    autoscaling = situation.autoscaling
    if situation.replicas < replicas == autoscaling.min_replicas:
        return f"minReplicas is {replicas}"
    if situation.replicas > replicas == autoscaling.max_replicas:
        return f"maxReplicas is {replicas}"
    return asked.words
