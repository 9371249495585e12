"""What the operator takes, as a table and as a picture."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from html import escape
from math import log
from typing import Final, NamedTuple

from benchmarks.fleet import audit
from benchmarks.fleet.measure import QUIET, RESYNC, Fleet
from benchmarks.machine import Machine
from benchmarks.table import markdown


class Figure(NamedTuple):
    """One figure of a size."""

    words: str
    unit: str
    of: Callable[[Fleet], float]
    panel: str = ""
    """Under which it is drawn, if it is."""


def _calls(words: str) -> Callable[[Fleet], float]:
    return lambda fleet: sum(number for call, number in fleet.steady_calls.items() if call.startswith(words))


def _lease(fleet: Fleet) -> float:
    return sum(number for call, number in fleet.steady_calls.items() if call.endswith(" leases"))


def _worst(fleet: Fleet) -> float:
    return max(fleet.failover.others, default=0)


STEADY, RESTART, CHANGE = "nothing happens, for a minute", "an operator starts", "from a creation to its Deployment"
FIGURES: Final = (
    Figure("lists, a minute", "", _calls("list "), STEADY),
    Figure("watches begun, a minute", "", _calls("watch ")),
    Figure("reads and renewals of the lease, a minute", "", _lease),
    Figure("writes, a minute", "", lambda fleet: audit.writes(fleet.steady_calls)),
    Figure("processor time, a minute", "s", lambda fleet: fleet.steady_cpu, STEADY),
    Figure("resident memory", "MB", lambda fleet: fleet.rss, "memory"),
    Figure("start of the process until all have been looked at", "s", lambda fleet: fleet.restart, RESTART),
    Figure("processor time of that, and of the watches' begin", "s", lambda fleet: fleet.restart_cpu, RESTART),
    Figure("calls in that time", "", lambda fleet: sum(fleet.restart_calls.values())),
    Figure("writes in that time", "", lambda fleet: audit.writes(fleet.restart_calls)),
    Figure("leader killed: another leads after", "s", lambda fleet: fleet.failover.led),
    Figure("and has looked at all, after another", "s", lambda fleet: fleet.failover.looked, RESTART),
    Figure("created as the leader ends: Deployment after", "s", lambda fleet: fleet.failover.first),
    Figure("created while the other looks at all, at worst", "s", _worst, CHANGE),
    Figure("created at rest, median", "s", lambda fleet: statistics.median(fleet.changes), CHANGE),
    Figure("created at rest, at worst", "s", lambda fleet: max(fleet.changes), CHANGE),
)
_DIGITS: Final = 3
COLORS: Final = ("#0b6bcb", "#c2410c", "#12a594")
WIDTH: Final = 190
HEIGHT: Final = 110
MARGIN: Final = 46
TALL: Final = HEIGHT + 92


def page(found: Sequence[Fleet], seen: Machine, command: str) -> str:
    """Return the report."""
    return f"""# The operator with many ModelDeployments

Made by `{command}` on {seen.cpu}, {seen.cores} cores, on which etcd, the API server and its controllers run
beside the operator; {seen.busy_before:.0%} of them were taken by others before.

A control plane without nodes: every ModelDeployment has a pod, which is reported ready as a kubelet would. Full
listings come every {RESYNC:g} s, as by default. Rest was watched for {QUIET} minutes. *Grows as*: the power of the
number of ModelDeployments, from the first column to the last; 1 is in proportion, 2 would be its square.

{table(found)}
![The same over the number of ModelDeployments](operator.svg)
"""


def table(found: Sequence[Fleet]) -> str:
    """Return the table: a column for each size."""
    head = ["ModelDeployments", *(f"{each.resources:,}" for each in found), "grows as"]
    return markdown([head, *(_row(figure, found) for figure in FIGURES)])


def _row(figure: Figure, found: Sequence[Fleet]) -> list[str]:
    words = f"{figure.words}, {figure.unit}" if figure.unit else figure.words
    return [words, *(_shown(figure.of(each)) for each in found), _growth(figure, found)]


def _shown(value: float) -> str:
    return f"{value:.{_DIGITS}g}" if value < 10**_DIGITS else f"{value:,.0f}"


def _growth(figure: Figure, found: Sequence[Fleet]) -> str:
    first, last = figure.of(found[0]), figure.of(found[-1])
    if first <= 0 or last <= 0 or len(found) == 1:
        return "–"
    return f"n^{log(last / first) / log(found[-1].resources / found[0].resources):.1f}"


def picture(found: Sequence[Fleet]) -> str:
    """Return the picture as SVG: figures over the number of resources, so that what is in proportion is straight."""
    panels = list(dict.fromkeys(figure.panel for figure in FIGURES if figure.panel))
    width, height = 2 * (WIDTH + 2 * MARGIN) + MARGIN, (len(panels) + 1) // 2 * TALL + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"'
        ' font-size="10" fill="#333">',
        f'<rect width="100%" height="{height}" fill="#fff"/>',
    ]
    for number, panel in enumerate(panels):
        left, top = MARGIN + number % 2 * (WIDTH + 2 * MARGIN), 26 + number // 2 * TALL
        parts += [f'<g transform="translate({left} {top})">', *_panel(panel, found), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: str, found: Sequence[Fleet]) -> Iterator[str]:
    figures = [figure for figure in FIGURES if figure.panel == panel]
    widest = found[-1].resources
    highest = max(figure.of(each) for figure in figures for each in found) or 1
    yield f'<text y="-8" font-weight="bold">{escape(panel)}</text>'
    yield f'<path d="M0 0V{HEIGHT}H{WIDTH}" fill="none" stroke="#999"/>'
    yield f'<text x="-4" y="8" text-anchor="end">{_shown(highest)}</text>'
    yield f'<text x="-4" y="{HEIGHT}" text-anchor="end">0</text>'
    for each in found:
        x = WIDTH * each.resources / widest
        yield f'<text x="{x:.1f}" y="{HEIGHT + 12}" text-anchor="middle">{each.resources:,}</text>'
    for line, (figure, color) in enumerate(zip(figures, COLORS, strict=False)):
        points = [(WIDTH * each.resources / widest, HEIGHT * (1 - figure.of(each) / highest)) for each in found]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        yield f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5"/>'
        yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" fill="{color}"/>' for x, y in points)
        words = f"{figure.words}, {figure.unit}" if figure.unit else figure.words
        y = HEIGHT + 28 + 12 * line
        yield f'<path d="M0 {y - 3}h12" stroke="{color}" stroke-width="2"/><text x="16" y="{y}">{escape(words)}</text>'
