"""A strategy as a row of steps: weights to reach, and waits."""

import re
from dataclasses import dataclass
from typing import Final

from onceserve_operator import quantities
from onceserve_operator.api.rollout import CanaryStep, Promotion, Rollout, Strategy

ALL: Final = 100


@dataclass(frozen=True, slots=True)
class Weight:
    """Give the new revision this percentage of traffic."""

    percent: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait so many seconds; None: until somebody promotes."""

    seconds: float | None = None


Step = Weight | Wait


def of_strategy(rollout: Rollout) -> tuple[Step, ...]:
    """Return the steps of a strategy; the last one gives the new revision all traffic."""
    match rollout.strategy:
        case Strategy.CANARY:
            given = tuple(map(_canary_step, rollout.canary.steps if rollout.canary else ()))
            return given if given and given[-1] == Weight(ALL) else (*given, Weight(ALL))
        case Strategy.BLUE_GREEN:
            manual = rollout.blue_green is not None and rollout.blue_green.promotion is Promotion.MANUAL
            return (Wait(), Weight(ALL)) if manual else (Weight(ALL),)
        case _:
            return (Weight(ALL),)


def _canary_step(step: CanaryStep) -> Step:
    if step.weight is not None:
        return Weight(step.weight)
    duration = step.pause.duration if step.pause else None
    return Wait(None if duration is None else quantities.seconds(duration))


def weight_at(steps: tuple[Step, ...], index: int) -> int:
    """Return the percentage that holds at a step: the last weight given up to it, none at first."""
    given = (step.percent for step in reversed(steps[: index + 1]) if isinstance(step, Weight))
    return next(given, 0)


def told(steps: tuple[Step, ...]) -> str:
    """Return steps in words, by which it is seen that they were changed, and `weight_told` is known."""
    return ", ".join(map(_told, steps))


def _told(step: Step) -> str:
    if isinstance(step, Weight):
        return f"{step.percent} %"
    return "wait" if step.seconds is None else f"{step.seconds:g} s"


def weight_told(words: str) -> int:
    """Return the last percentage in such words, none at first."""
    return int([0, *re.findall(r"(\d+) %", words)][-1])


def within(steps: tuple[Step, ...], percent: int) -> int:
    """Return the index of the last step that gives no more than a percentage; the first one where all give more."""
    given = (index for index, step in enumerate(steps) if isinstance(step, Weight) and step.percent <= percent)
    return max(given, default=0)


def first_weight(steps: tuple[Step, ...]) -> int:
    """Return the first percentage that is more than none."""
    return next((step.percent for step in steps if isinstance(step, Weight) and step.percent), ALL)
