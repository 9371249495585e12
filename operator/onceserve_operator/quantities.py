"""Kubernetes' textual forms of time and of shares, as numbers."""

import math
import re
from datetime import UTC, datetime

_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")


def seconds(duration: str) -> float:
    """Return the seconds of a duration such as `1h30m`; the API server has checked its form."""
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _PART.findall(duration))


def share(of: int, amount: int | str) -> int:
    """Return a number, or a percentage of `of` rounded up, as a PodDisruptionBudget counts it."""
    if isinstance(amount, int):
        return amount
    return math.ceil(of * int(amount.rstrip("%")) / 100)


def whole_share(of: int, amount: int | str) -> int:
    """Return a number, or a percentage of `of` rounded down, as a Deployment counts what may be missing."""
    if isinstance(amount, int):
        return amount
    return of * int(amount.rstrip("%")) // 100


def timestamp(moment: datetime) -> str:
    """Return a moment as Kubernetes writes it, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
