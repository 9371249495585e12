"""Memory of a server with all its processes."""

import contextlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

MB: Final = 1024
"""Kibibytes in what the tables call MB."""


class Memory(NamedTuple):
    """Mebibytes; `pss` shares pages among those who map them, `rss` counts them for each."""

    pss: float
    rss: float


class Trend(NamedTuple):
    """Memory over time, in mebibytes and mebibytes a minute; the slope is over the second half, caches being warm."""

    first: float
    last: float
    highest: float
    slope: float


def of(pids: Iterable[int]) -> Memory:
    """Return the memory of these processes together."""
    texts = [text for pid in pids if (text := _rollup(pid))]
    return Memory(_sum("Pss", texts), _sum("Rss", texts))


def trend(samples: Sequence[tuple[float, float]]) -> Trend:
    """Return the trend of samples of (seconds, mebibytes); needs at least one."""
    values = [value for _, value in samples]
    return Trend(values[0], values[-1], max(values), round(60 * _slope(samples[len(samples) // 2 :]), 2))


def _slope(samples: Sequence[tuple[float, float]]) -> float:
    count = len(samples)
    middle = sum(at for at, _ in samples) / count
    level = sum(value for _, value in samples) / count
    spread = sum((at - middle) ** 2 for at, _ in samples)
    return sum((at - middle) * (value - level) for at, value in samples) / spread if spread else 0.0


def _rollup(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/smaps_rollup").read_text()
    return ""


def _sum(field: str, texts: Sequence[str]) -> float:
    found = (re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE) for text in texts)
    return round(sum(int(one.group(1)) for one in found if one) / MB, 1)
