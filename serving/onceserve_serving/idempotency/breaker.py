"""Spares a store that does not answer, and its callers the wait."""

import time
from typing import Final

FAILURES: Final = 5
"""Failures in a row after which nobody is let through."""

PAUSE: Final = 1.0
"""Seconds after which one is let through to see."""


class Breaker:
    """Closed while the store answers; open after so many failures in a row."""

    def __init__(self) -> None:
        self._failures = 0
        self._again_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether a call would only wait in vain. Once in a while it is not, for one caller."""
        if self._failures < FAILURES:
            return False
        now = time.monotonic()
        if now < self._again_at:
            return True
        self._again_at = now + PAUSE
        return False

    def succeeded(self) -> None:
        """Note that the store has answered."""
        self._failures = 0

    def failed(self) -> None:
        """Note that it has not."""
        self._failures += 1
        # From the end of the call: a store that hangs takes longer than the pause to fail.
        if self._failures >= FAILURES:
            self._again_at = time.monotonic() + PAUSE
