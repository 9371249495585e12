"""When a call is made again, and after how long: time and chance are arguments."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

FIRST: Final = 0.1
LONGEST: Final = 10.0
"""Seconds that a client waits at most of its own accord, before the second try and in the end."""

DOUBLINGS: Final = 10
"""From FIRST beyond LONGEST."""

REFILL: Final = 1.0
"""Retries a second that are always allowed, so that a client of few calls recovers as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How much is done for a call.

    tries: how often it is sent, the first time included. seconds: within which the last try begins and its timeouts
    end. burst, ratio: a transport retries no more than `burst` times, and `ratio` times for each call, beside once a
    second: a service that is dead gets no storm.
    """

    tries: int = 10
    seconds: float = 60.0
    burst: int = 100
    ratio: float = 0.2

    def __post_init__(self) -> None:
        least = {"tries": 1, "seconds": 0, "burst": 0, "ratio": 0}
        for name, bound in least.items():
            if not getattr(self, name) >= bound:
                raise ValueError(f"{name}: {bound} or more was expected, not {getattr(self, name)!r}")

    def pause(self, *, tries: int, elapsed: float, asked: float, drawn: float) -> float | None:
        """Return the seconds before the next try, None if there is none.

        tries, elapsed: made so far, and seconds since the first began. asked: seconds that the server asked for.
        drawn: a random number from 0 to 1, so that clients that failed together do not come back together.
        """
        seconds = asked + drawn * min(FIRST * 2 ** min(tries - 1, DOUBLINGS), LONGEST)
        return seconds if tries < self.tries and elapsed + seconds < self.seconds else None


class Tokens:
    """The retries that all calls of a transport have left; for any number of threads. `now`: seconds of any clock."""

    def __init__(self, policy: Policy, now: float) -> None:
        self._policy = policy
        self._left = float(policy.burst)
        self._at = now
        self._lock = threading.Lock()

    def call(self, now: float) -> None:
        """Count a call."""
        with self._lock:
            self._add(self._policy.ratio, now)

    def take(self, now: float) -> bool:
        """Tell whether a call may be tried again, and count the try."""
        with self._lock:
            self._add(0.0, now)
            taken = self._left >= 1
            self._left -= taken
            return taken

    def _add(self, tokens: float, now: float) -> None:
        # Threads come in another order than they looked at the clock.
        passed = max(now - self._at, 0.0)
        self._at += passed
        self._left = min(self._left + tokens + REFILL * passed, float(self._policy.burst))


def retry_after(headers: Mapping[str, str], now: datetime) -> float:
    """Return the seconds that an answer asks to wait for, 0 if it does not, or not in a form that HTTP has.

    A date is counted from the answer's own, so that the two clocks need not agree; from `now` if it has none.
    """
    asked = headers.get("Retry-After", "").strip()
    if asked.isascii() and asked.isdigit():
        return float(asked)
    until = _date(asked)
    return max((until - (_date(headers.get("Date", "")) or now)).total_seconds(), 0.0) if until else 0.0


def _date(text: str) -> datetime | None:
    try:
        parsed = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
