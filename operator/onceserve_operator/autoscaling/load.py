"""How busy pods are, from what they count themselves."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

LONGEST: Final = 10.0
"""Seconds that one look at the pods stands for at most: what was before is not known."""

_INFLIGHT: Final = "onceserve_inflight_requests"
_ANSWERED: Final = "onceserve_requests_total"
_BEGUN: Final = "onceserve_queue_duration_seconds_count"
_WAITED: Final = "onceserve_queue_duration_seconds_sum"
_FIELDS: Final = {_INFLIGHT: "inflight", _ANSWERED: "answered", _BEGUN: "begun", _WAITED: "waited"}


@dataclass(frozen=True, slots=True)
class Reading:
    """What a pod told of its load."""

    inflight: float
    """Requests in work or waiting."""
    answered: float = 0
    """Requests answered since it started, refused ones too."""
    begun: float = 0
    """Runs of requests begun since it started."""
    waited: float = 0
    """Seconds that these have waited in all."""


Readings = Mapping[str, Reading | None]
"""By the uid of every pod that gets traffic and is ready; None for one that told nothing."""


@dataclass(frozen=True, slots=True)
class Point:
    """The load at one moment, and since the moment before; of what is not known nothing is in the numbers."""

    at: float
    seconds: float
    """How long it stands for."""
    pods: int
    """Pods that should have told."""
    known: int
    """Pods that have told."""
    restarted: bool
    """The counters of one of them have started anew."""
    counted: bool
    """Of all of them it is known what changed."""
    inflight: float
    """Requests in work or waiting."""
    arrived: float
    """Requests that came, refused ones too."""
    begun: float
    """Runs of requests begun."""
    waited: float
    """Seconds that these had waited in all."""

    @property
    def told(self) -> bool:
        """All of them have told; of nobody nothing is known."""
        return 0 < self.pods == self.known


def read(exposition: str) -> Reading:
    """Return the load in a pod's metrics. Raises ValueError for what is missing, no number, or negative."""
    # Not by the parser of all metrics: it takes a hundred times as long, for each pod, every two seconds.
    found = dict.fromkeys(_FIELDS.values(), 0.0)
    told = False
    for line in exposition.splitlines():
        series, _, value = line.rpartition(" ")
        name = series.partition("{")[0]
        if name in _FIELDS:
            found[_FIELDS[name]] += _amount(name, value)
            told |= name == _INFLIGHT
    if not told:
        raise ValueError(f"{_INFLIGHT} is missing")
    return Reading(**found)


def _amount(name: str, text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} is {text}")
    return value


def point(before: Readings, after: Readings, at: float, seconds: float) -> Point:
    """Return the load that two looks at the pods show, `seconds` apart."""
    told = [reading for reading in after.values() if reading]
    # Of a pod that is new, or has just not told, it is not known what changed.
    both = [(then, now) for uid, now in after.items() if now and (then := before.get(uid))]
    restarted = any(_restarted(*each) for each in both)
    changed = [_change(*each) for each in both]
    return Point(
        at=at,
        seconds=min(seconds, LONGEST),
        pods=len(after),
        known=len(told),
        restarted=restarted,
        counted=0 < len(after) == len(both) and not restarted,
        inflight=sum(each.inflight for each in told),
        # What is answered had arrived, and so has what still runs.
        arrived=max(0.0, sum(each.answered + each.inflight for each in changed)),
        begun=sum(each.begun for each in changed),
        waited=sum(each.waited for each in changed),
    )


def _restarted(before: Reading, after: Reading) -> bool:
    return any(getattr(after, each) < getattr(before, each) for each in ("answered", "begun", "waited"))


def _change(before: Reading, after: Reading) -> Reading:
    """Return what changed in a pod; of one that has started anew only what was since."""
    if _restarted(before, after):
        return after
    return Reading(*(getattr(after, each.name) - getattr(before, each.name) for each in fields(Reading)))
