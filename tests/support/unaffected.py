"""A model that goes on being served while something is lost."""

import time
from collections.abc import Callable
from typing import Any

from support.served import Served
from support.showing import CLIENTS

_QUIET = 1.0
"""Seconds of load before and after."""


def unaffected(served: Served, loss: Callable[[], Any]) -> None:
    """Have clients that never retry ask meanwhile: none of their calls fails."""
    with served.running_load(*CLIENTS) as load:
        time.sleep(_QUIET)
        loss()
        time.sleep(_QUIET)
        seen = load.end()
    print(f"{seen.calls} calls, {seen.failed} failed, p99 {1e3 * seen.latency(0.99):.0f} ms")
    assert seen.failures == [], seen.failures[:20]
    assert seen.calls > 100
