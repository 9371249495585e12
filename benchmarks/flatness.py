"""Memory under a steady load, and what a further process of the same server takes."""

import sys
from dataclasses import dataclass
from typing import Final

from benchmarks import memory, overload, rounds, table, wrk
from benchmarks.payloads import Form
from benchmarks.rounds import Plan, Site
from benchmarks.subjects import Ours

MODEL: Final = "risk"
CONNECTIONS: Final = 16
WARM_UP: Final = 3.0
LONG: Final = 60.0
"""Seconds from which a slope tells a leak from caches that fill."""


@dataclass(frozen=True)
class Flatness:
    """Memory (PSS, MB) under load for some seconds, the load itself, and what a second process adds."""

    seconds: float
    memory: memory.Trend
    load: wrk.Load
    second_process: float


def run(plan: Plan, seconds: float) -> Flatness:
    """Load our server without pause, then start a second one beside it."""
    print(f"memory: {MODEL} at {CONNECTIONS} connections for {seconds:g} s", file=sys.stderr, flush=True)
    with rounds.serving(Ours(), plan.every_model[MODEL], plan) as found:
        rounds.load(found, Form.JSON, CONNECTIONS, WARM_UP, plan)
        with overload.sampled(found) as samples:
            load = rounds.load(found, Form.JSON, CONNECTIONS, seconds, plan)
        second = _second(found, plan)
    return Flatness(seconds, memory.trend(samples), load, second)


def _second(found: Site, plan: Plan) -> float:
    alone = memory.of(found.server.family()).pss
    with rounds.serving(Ours(), found.model, plan, "second.log") as second:
        rounds.load(second, Form.JSON, CONNECTIONS, 1.0, plan)
        together = memory.of({*found.server.family(), *second.server.family()}).pss
    return round(together - alone, 1)


def markdown(found: Flatness) -> str:
    """Return the table."""
    trend = found.memory
    return table.markdown(
        [
            ["memory (PSS)", f"{MODEL}, {CONNECTIONS} connections, {found.seconds:g} s"],
            ["first / most / last, MB", f"{trend.first:.1f} / {trend.highest:.1f} / {trend.last:.1f}"],
            [
                "growth in the second half, MB a minute",
                f"{trend.slope:g}" if found.seconds >= LONG else "run too short",
            ],
            ["requests", f"{found.load.good_per_second * found.seconds:.0f}"],
            ["a second process adds, MB", f"{found.second_process:.0f}"],
        ]
    )
