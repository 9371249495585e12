"""Loads over time, in requests per second, and when nobody can ask the pods."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

LOW: Final = 60.0
HIGH: Final = 5 * LOW


@dataclass(frozen=True, slots=True)
class Trace:
    """A load to replay; all times are in seconds from its beginning."""

    seconds: float
    rate: Callable[[float], float]
    """Requests per second at a time."""
    steps: tuple[float, ...] = ()
    """When the load steps."""
    gaps: tuple[tuple[float, float], ...] = ()
    """When no pod tells anything."""

    def told(self, at: float) -> bool:
        """Say whether pods tell how busy they are."""
        return not any(start <= at < end for start, end in self.gaps)


def _step(at: float) -> float:
    return HIGH if 180 <= at < 720 else LOW  # noqa: PLR2004 - the trace itself


def _square(at: float) -> float:
    return HIGH if at % 240 >= 120 else LOW  # noqa: PLR2004


def _ramp(at: float) -> float:
    return LOW + (HIGH - LOW) * max(0.0, min(1.0, (at - 120) / 480, (1320 - at) / 480))


def _diurnal(at: float) -> float:
    return LOW + (HIGH - LOW) * (1 - math.cos(2 * math.pi * at / 1800)) / 2


def _spike(at: float) -> float:
    return 2 * HIGH if 300 <= at < 320 else LOW  # noqa: PLR2004


TRACES: Final[Mapping[str, Trace]] = {
    "step ×5": Trace(1200, _step, (180, 720)),
    "square wave": Trace(1440, _square, tuple(120.0 * number for number in range(1, 12))),
    "ramp": Trace(1440, _ramp),
    "diurnal": Trace(1800, _diurnal),
    "spike": Trace(900, _spike, (300, 320)),
    "gaps": Trace(1200, _step, (180, 720), ((170, 215), (400, 500), (760, 800))),
}
