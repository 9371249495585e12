"""How many requests per second a pod takes before they wait too long: what QueueTime learns.

Waiting itself does not say how many pods there should be: it is next to nothing with twice the pods as with ten times,
and grows without bound where they are too few.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from onceserve_operator.autoscaling.load import Point

FORGOTTEN: Final = 3600.0
"""Seconds after which what was learnt is tried again."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """The rate per pod at which requests waited longer than they should."""

    rate: float | None = None
    """Requests per second; None until it has been reached."""
    learnt_at: float = 0
    revisions: frozenset[str] = frozenset()
    """Whose pods these were."""
    target: float = 0
    """How long requests should wait, in seconds."""


UNKNOWN: Final = Capacity()


@dataclass(frozen=True, slots=True)
class Wait:
    """How long requests waited of late."""

    seconds: float
    """For each request."""
    rate: float
    """Runs begun per second and pod."""
    draining: bool
    """Fewer requests come than are begun, so that it passes by itself."""
    sure: bool
    """All pods told of all of it, and they were the same all the time."""


# Waiting that ends within the rate at which pods work anyway needs no further pod.
_DRAINING: Final = 0.8


def wait(points: Sequence[Point]) -> Wait | None:
    """Return how long requests waited; None where none began."""
    begun, seconds = sum(each.begun for each in points), sum(each.seconds for each in points)
    if not begun:
        return None
    pods = max(each.pods for each in points)
    arrived = sum(each.arrived for each in points)
    return Wait(
        seconds=sum(each.waited for each in points) / begun,
        rate=begun / seconds / pods,
        draining=arrived < _DRAINING * begun,
        sure=all(each.counted and each.pods == pods for each in points),
    )


def learn(known: Capacity, found: Wait | None, target: float, revisions: frozenset[str], now: float) -> Capacity:
    """Return what is known after another look; pods of two revisions teach nothing."""
    stale = now - known.learnt_at > FORGOTTEN or (known.revisions, known.target) != (revisions, target)
    before = UNKNOWN if stale else known
    if found is None or not found.sure or len(revisions) != 1:
        return before
    if found.seconds > target:
        # What drains is in some pods alone, while the others have less to do than they could.
        if found.draining:
            return before
        return Capacity(found.rate, now, revisions, target)
    if before.rate is not None and found.rate > before.rate:
        # It was too low: as many do not wait too long now.
        return replace(before, rate=found.rate)
    return before
