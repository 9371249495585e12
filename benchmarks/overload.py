"""Three times the load that a server can carry: whether it still does its work, and stays small."""

import json
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from benchmarks import memory, processes, rounds, table
from benchmarks.errors import UnservedError
from benchmarks.payloads import Form, Payload
from benchmarks.rounds import Plan, Site
from benchmarks.subjects import HOST, Ours

FACTOR: Final = 3
MODEL: Final = "cnn"
"""Its runs take milliseconds, so that a generator on one core can send three times what it answers."""
CONNECTIONS: Final = 1_000
PEAK_CONNECTIONS: Final = 64
SAMPLE: Final = 0.25
LATE: Final = 120.0


@dataclass(frozen=True)
class Overload:
    """An overload as it went; rates in requests a second, latencies in milliseconds, memory (PSS) in MB."""

    form: str
    peak: float
    offered: float
    goodput: float
    goodput_of_peak: float
    good_p50: float
    good_p99: float
    refused_p99: float
    statuses: Mapping[str, int]
    broken: int
    unsent: int
    peak_after: float
    memory: memory.Trend


def run(plan: Plan, seconds: float) -> Overload:
    """Overload our server with one model; raises UnservedError where it does not serve it."""
    print(f"overload: {FACTOR} times the peak of {MODEL} for {seconds:g} s", file=sys.stderr, flush=True)
    with rounds.serving(Ours(), plan.every_model[MODEL], plan) as found:
        form = _form(found)
        peak = rounds.load(found, form, PEAK_CONNECTIONS, plan.seconds, plan).good_per_second
        with sampled(found) as samples:
            outcome = _offer(found, form, FACTOR * peak, seconds, plan)
        after = rounds.load(found, form, PEAK_CONNECTIONS, plan.seconds, plan).good_per_second
    return summary(form, peak, after, outcome, memory.trend(samples))


def _form(found: Site) -> Form:
    served, _ = rounds.served_forms(found)
    if not served:
        raise UnservedError(f"{found.subject.name} answers {MODEL} in no form")
    return served[-1]


@contextmanager
def sampled(found: Site) -> Iterator[list[tuple[float, float]]]:
    """Take samples of (seconds, MB) of the server's memory while the block runs; one at least."""
    samples: list[tuple[float, float]] = []
    stop = threading.Event()

    def watch() -> None:
        count = 0
        while True:
            samples.append((count * SAMPLE, memory.of(found.server.family()).pss))
            count += 1
            if stop.wait(SAMPLE):
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()


def _offer(found: Site, form: Form, rate: float, seconds: float, plan: Plan) -> dict[str, Any]:
    file = plan.scratch / "request"
    file.write_bytes(wire(found, found.payload(form)))
    order = {"port": found.port, "request": str(file), "rate": rate, "seconds": seconds, "connections": CONNECTIONS}
    command = processes.pinned(plan.cores.load, [sys.executable, "-m", "benchmarks.apps.openloop"])
    outcome: dict[str, Any] = json.loads(processes.collect(command, seconds + LATE, json.dumps(order)))
    return outcome


def wire(found: Site, payload: Payload) -> bytes:
    """Return a request as it goes over the wire."""
    path = found.subject.path.format(model=found.model.name)
    headers = {"Host": f"{HOST}:{found.port}", "Content-Length": str(len(payload.body)), **payload.headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + payload.body


def summary(form: str, peak: float, after: float, outcome: Mapping[str, Any], trend: memory.Trend) -> Overload:
    """Put an overload into figures."""
    goodput = outcome["good_in_time"] / outcome["seconds"]
    return Overload(
        form=form,
        peak=peak,
        offered=round((outcome["sent"] + outcome["unsent"]) / outcome["seconds"], 1),
        goodput=round(goodput, 1),
        goodput_of_peak=round(goodput / peak, 3) if peak else 0.0,
        good_p50=percentile(outcome["good"], 50),
        good_p99=percentile(outcome["good"], 99),
        refused_p99=percentile(outcome["refused"], 99),
        statuses=outcome["statuses"],
        broken=outcome["broken"],
        unsent=outcome["unsent"],
        peak_after=after,
        memory=trend,
    )


def percentile(values: Sequence[float], percent: int) -> float:
    """Return a percentile (nearest rank); 0 of none."""
    ordered = sorted(values)
    return round(ordered[max(0, -(-len(ordered) * percent // 100) - 1)], 1) if ordered else 0.0


def markdown(found: Overload) -> str:
    """Return the table of an overload."""
    statuses = ", ".join(f"{status}: {count}" for status, count in sorted(found.statuses.items()))
    trend = found.memory
    return table.markdown(
        [
            ["overload", f"{MODEL} {found.form}"],
            ["offered, of the peak", f"{found.offered / found.peak:.1f}×" if found.peak else "–"],
            ["goodput, of the peak", f"{100 * found.goodput_of_peak:.0f} %"],
            ["peak again afterwards", f"{100 * found.peak_after / found.peak:.0f} %" if found.peak else "–"],
            ["accepted: p50 / p99, ms", f"{found.good_p50:g} / {found.good_p99:g}"],
            ["refused: p99, ms", f"{found.refused_p99:g}"],
            ["answers by status", statuses or "none"],
            ["broken / never sent (all connections waiting)", f"{found.broken} / {found.unsent}"],
            ["PSS before / most / after, MB", f"{trend.first:.0f} / {trend.highest:.0f} / {trend.last:.0f}"],
        ]
    )
