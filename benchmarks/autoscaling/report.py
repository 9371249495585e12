"""What the replays come to: a table, and a picture of loads, pods, latencies and refused calls."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Final

from benchmarks.autoscaling import pods, policies, replay
from benchmarks.autoscaling.replay import Outcome, Slice
from benchmarks.autoscaling.traces import TRACES, Trace
from benchmarks.table import markdown

Outcomes = Mapping[str, Mapping[str, Outcome]]
"""By trace and policy."""

COLORS: Final = ("#0b6bcb", "#12a594", "#c2410c", "#8b5cf6")
WIDTH: Final = 420
HEIGHT: Final = 110
GAP: Final = 46
SLOWEST: Final = 10.0
"""Seconds at the top of the latency's scale."""


def table(outcomes: Outcomes) -> str:
    """Return the table: a row for each trace and policy."""
    rows = [["trace", "policy", "calls too late or refused", "pod-seconds", "changes of direction", "decided after"]]
    for name, found in outcomes.items():
        for policy, outcome in found.items():
            rows.append(
                [
                    name,
                    policy,
                    f"{100 * outcome.late / outcome.calls:.2f} %",
                    f"{outcome.pod_seconds:,.0f}",
                    f"{outcome.turns}",
                    _decisions(TRACES[name], outcome),
                ]
            )
    return markdown(rows)


def _decisions(trace: Trace, outcome: Outcome) -> str:
    """Return the seconds from the first step up, and from the first one down, to a change."""
    if not trace.steps:
        return "–"
    found = (outcome.decided_after(step, rise) for step, rise in zip(trace.steps[:2], (True, False), strict=True))
    return " / ".join("–" if seconds is None else f"{seconds:.0f} s" for seconds in found)


def page(outcomes: Outcomes) -> str:
    """Return the report."""
    return f"""# Autoscaling, simulated

Made by `python -m benchmarks autoscaling`: load traces replayed through the operator's own policy and through two
others as their projects publish them, against a queueing model of pods. A pod works on {pods.WORKERS} requests at once,
each takes {pods.SERVICE:g} s on average, {pods.QUEUE} may wait; a new one is ready after {pods.START_UP:g} s.
All aim at {policies.TARGET:g} concurrent requests a pod, with {policies.LEAST} to {policies.MOST} pods; QueueTime aims
at 50 ms. A call is too late after {replay.LATENCY:g} s. *Decided after*: from the first step up, and from the first one
down.

{table(outcomes)}"""


def picture(outcomes: Outcomes) -> str:
    """Return the picture as SVG."""
    height = (2 * HEIGHT + GAP + 14) * len(outcomes) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + 110} {height}" font-family="sans-serif"'
        ' font-size="10" fill="#333">',
        f'<rect width="100%" height="{height}" fill="#fff"/>',
        *_legend(list(next(iter(outcomes.values())))),
    ]
    for row, (name, found) in enumerate(outcomes.items()):
        top = 34 + row * (2 * HEIGHT + GAP + 14)
        parts += [f'<g transform="translate(46 {top})">', *_panels(name, TRACES[name], found), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend(names: Sequence[str]) -> Iterator[str]:
    yield '<rect x="46" y="9" width="10" height="8" fill="#ddd"/><text x="60" y="17">load, in pods</text>'
    for number, (name, color) in enumerate(zip(names, COLORS, strict=True)):
        x = 140 + (0, 80, 210, 260)[number]
        yield f'<path d="M{x} 13h14" stroke="{color}" stroke-width="2"/><text x="{x + 18}" y="17">{escape(name)}</text>'


def _panels(name: str, trace: Trace, found: Mapping[str, Outcome]) -> Iterator[str]:
    any_outcome = next(iter(found.values()))
    needed = [(each.at, each.rate * pods.SERVICE / policies.TARGET) for each in any_outcome.slices]
    most = max(max(each.replicas for each in outcome.slices) for outcome in found.values())
    yield f'<text x="0" y="-6" font-weight="bold">{escape(name)}</text>'
    yield from _axes(trace, f"{most}", "pods")
    for start, end in trace.gaps:
        x, width = WIDTH * start / trace.seconds, WIDTH * (end - start) / trace.seconds
        yield f'<rect x="{x:.1f}" width="{width:.1f}" height="{HEIGHT}" fill="#fee2e2"/>'
    area = " ".join(f"{x:.1f},{y:.1f}" for x, y in _placed(needed, trace, most))
    yield f'<polygon points="0,{HEIGHT} {area} {WIDTH},{HEIGHT}" fill="#ddd"/>'
    for outcome, color in zip(found.values(), COLORS, strict=True):
        yield _line(_placed([(each.at, each.replicas) for each in outcome.slices], trace, most), color)
    yield f'<g transform="translate(0 {HEIGHT + 14})">'
    yield from _axes(trace, f"{SLOWEST:g} s", "p99; × refused")
    for outcome, color in zip(found.values(), COLORS, strict=True):
        yield _line(_placed([(each.at, each.latency) for each in outcome.slices], trace, SLOWEST), color)
        yield from _refused(outcome.slices, trace, color)
    yield "</g>"


def _axes(trace: Trace, highest: str, words: str) -> Iterator[str]:
    yield f'<path d="M0 0V{HEIGHT}H{WIDTH}" fill="none" stroke="#999"/>'
    yield f'<text x="-4" y="8" text-anchor="end">{highest}</text>'
    yield f'<text x="-4" y="{HEIGHT}" text-anchor="end">0</text>'
    yield f'<text x="{WIDTH + 4}" y="{HEIGHT}">{trace.seconds / 60:g} min</text>'
    yield f'<text x="{WIDTH + 4}" y="10">{words}</text>'


def _placed(points: Sequence[tuple[float, float]], trace: Trace, most: float) -> list[tuple[float, float]]:
    return [(WIDTH * at / trace.seconds, HEIGHT * (1 - min(value, most) / most)) for at, value in points]


def _line(points: Sequence[tuple[float, float]], color: str) -> str:
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{text}" fill="none" stroke="{color}" stroke-width="1.3" stroke-opacity=".8"/>'


def _refused(slices: Sequence[Slice], trace: Trace, color: str) -> Iterator[str]:
    for each in slices:
        if each.shed:
            yield f'<text x="{WIDTH * each.at / trace.seconds:.1f}" y="6" fill="{color}" text-anchor="middle">×</text>'
