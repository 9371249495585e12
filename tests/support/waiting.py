"""Waiting for what a cluster does in its own time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 120.0
"""Seconds after which something is taken not to come any more; a machine that is busy with other work is no failure."""
_POLL = 0.1


def eventually(probe: Callable[[], T], what: str, timeout: float = PATIENCE, poll: float = _POLL) -> T:
    """Return the first true answer; fail with what was awaited and the last answer when time is up."""
    deadline = time.monotonic() + timeout
    while not (answer := probe()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout} s; last seen: {answer!r}"
        time.sleep(poll)
    return answer


def steadily(probe: Callable[[], bool], what: str, seconds: float) -> None:
    """Fail as soon as something does not hold any more; return when it has held long enough."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert probe(), f"{what}: did not hold for {seconds} s"
        time.sleep(_POLL)
