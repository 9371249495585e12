"""Markdown tables of a run; pure. Figures are ratios within the run; absolute ones follow for those who doubt them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from benchmarks.machine import QUIET, Machine
from benchmarks.results import Case, Footprint, Results, Spread, ratio, spread
from benchmarks.subjects import OURS
from benchmarks.wrk import Load

NOT_SERVED: Final = "not served"
DIGITS: Final = 10
"""Percentage from which whole numbers say enough."""
SAME: Final = 0.05
"""Share of a ratio within which its range is not worth a reader's time."""


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a table; the first row is its head."""
    head, *body = rows
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *body)) + "\n"


def columns(cases: Iterable[Case]) -> dict[tuple[str, str], list[Case]]:
    """Group cases into columns of one model in one form, connections ascending."""
    grouped: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        grouped.setdefault((case.model, case.form), []).append(case)
    return {key: sorted(cases, key=lambda case: case.connections) for key, cases in grouped.items()}


def heading(column: Sequence[Case]) -> str:
    """Return a column's head: the model, the form, and the connections that its cells list."""
    return f"{column[0].model} {column[0].form} ({' / '.join(str(case.connections) for case in column)})"


def grid(results: Results, subjects: Sequence[str], figure: Callable[[str, Case], str]) -> str:
    """Return a table with a row for each server and a column for each model and form."""
    grouped = columns(results.cases())
    rows = [["server", *(heading(column) for column in grouped.values())]]
    rows.extend(
        [subject, *(_cell(results, subject, column, figure) for column in grouped.values())] for subject in subjects
    )
    return markdown(rows)


def _cell(results: Results, subject: str, column: Sequence[Case], figure: Callable[[str, Case], str]) -> str:
    if not any(results.loads(subject, case) for case in column):
        return excuse(results.reason(subject, column[0]))
    return " / ".join(figure(subject, case) for case in column)


def excuse(reason: str | None) -> str:
    """Return a reason's first words; the whole of it is in the JSON file."""
    if reason is None:
        return "–"
    known = ("not installed", "ended", "answers wrongly", "did not answer")
    return next((words for words in known if reason.startswith(words)), NOT_SERVED)


def times_ours(results: Results) -> Callable[[str, Case], str]:
    """Return what writes how many requests our server answers while another answers one."""

    def figure(subject: str, case: Case) -> str:
        return factor(ratio(_good(results, OURS, case), _good(results, subject, case)))

    return figure


def share_of(results: Results, limit: str) -> Callable[[str, Case], str]:
    """Return what writes a server's throughput as a share of another's."""

    def figure(subject: str, case: Case) -> str:
        return percent(ratio(_good(results, subject, case), _good(results, limit, case)))

    return figure


def absolute(results: Results) -> Callable[[str, Case], str]:
    """Return what writes requests a second, marked where some were refused or broke."""

    def figure(subject: str, case: Case) -> str:
        loads = results.loads(subject, case)
        found = spread([load.good_per_second for load in loads.values()])
        return f"{rate(loads)}{_range(found)}" if found else "–"

    return figure


def rate(loads: Mapping[int, Load]) -> str:
    """Write the median requests a second of loads by round, marked where some were refused or broke."""
    found = spread([load.good_per_second for load in loads.values()])
    flawed = any(load.refused or load.broken for load in loads.values())
    return f"{found.median:.0f}{' !' if flawed else ''}" if found else "–"


def latency(results: Results) -> Callable[[str, Case], str]:
    """Return what writes the median and the 99th percentile of the latency in milliseconds."""

    def figure(subject: str, case: Case) -> str:
        loads = list(results.loads(subject, case).values())
        middle, far = spread([load.p50 / 1e3 for load in loads]), spread([load.p99 / 1e3 for load in loads])
        return f"{middle.median:.3g}–{far.median:.3g}" if middle and far else "–"

    return figure


def _good(results: Results, subject: str, case: Case) -> dict[int, float]:
    return {number: load.good_per_second for number, load in results.loads(subject, case).items()}


def factor(found: Spread | None) -> str:
    """Write a ratio as a factor, with its range where rounds differ."""
    if found is None:
        return "–"
    if found.most - found.least < SAME * found.median:
        return f"{found.median:.3g}×"
    return f"{found.median:.3g}× ({found.least:.3g}–{found.most:.3g})"


def percent(found: Spread | None) -> str:
    """Write a ratio as a percentage."""
    if found is None:
        return "–"
    share = 100 * found.median
    return f"{share:.0f} %" if share >= DIGITS else f"{share:.1f} %"


def _range(found: Spread) -> str:
    return "" if round(found.least) == round(found.most) else f" ({found.least:.0f}–{found.most:.0f})"


def memory(results: Results, subjects: Sequence[str]) -> str:
    """Return the table of memory and of the time from the start to the first right answer."""
    rows = [["server", "PSS idle, MB", "PSS after load, MB", "RSS after load, MB", "first answer after, s"]]
    rows.extend([subject, *footprint(results, subject)] for subject in subjects)
    return markdown(rows)


def footprint(results: Results, subject: str) -> list[str]:
    """Return a server's cells in the table of memory, those of the first model that it served."""
    prints = [one for one in results.footprints if one.subject == subject]

    def middle(read: Callable[[Footprint], float], digits: int) -> str:
        found = spread([read(one) for one in prints if one.model == prints[0].model])
        return f"{found.median:.{digits}f}" if found else "–"

    return [
        middle(lambda one: one.idle.pss, 0),
        middle(lambda one: one.loaded.pss, 0),
        middle(lambda one: one.loaded.rss, 0),
        middle(lambda one: one.ready_seconds, 1),
    ]


def machine(found: Machine) -> str:
    """Describe the machine and its versions in two lines."""
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    return (
        f"{found.cpu}, {found.cores} cores, {found.memory_mb // 1024} GB, Linux {found.kernel}, Python {found.python}, "
        f"commit {found.commit}.\n{versions}."
    )


def preamble(results: Results, title: str) -> str:
    """Return the head of a report: what was run, where, and whether the figures are worth quoting."""
    lines = [
        f"# {title}",
        f"Made by `{results.command}`, {results.started}: {results.rounds} interleaved round(s), {results.seconds:g} s "
        "a load, medians, ranges in brackets; server on one core, load on another.",
        machine(results.machine),
    ]
    if words := provisional(results):
        lines.append(f"**{words}**")
    return "\n\n".join(lines) + "\n"


def provisional(results: Results) -> str:
    """Return why figures are not worth quoting; nothing where they are."""
    if results.busiest <= QUIET:
        return ""
    return f"Provisional: others took up to {100 * results.busiest:.0f} % of the machine between rounds."


def reasons(results: Results) -> str:
    """List what was not served, and why."""
    lines = dict.fromkeys(
        f"- {one.subject}, {one.model} {one.form}".rstrip() + f": {_gist(one.reason)}" for one in results.unserved
    )
    return "\n".join(lines) + "\n" if lines else ""


def flaws(results: Results) -> str:
    """List the loads in which requests were refused or connections broke, and how many."""
    flawed = [one for one in results.timings if one.load.refused or one.load.broken]
    return "".join(
        f"- {one.subject}, {one.case.model} {one.case.form}, {one.case.connections} connections, round {one.round}: "
        f"{one.load.refused} refused, {one.load.broken} broken\n"
        for one in flawed
    )


def _gist(reason: str) -> str:
    """Return the first line of a reason, and the last of a log that follows it."""
    first, *rest = reason.strip().splitlines()
    return f"{first[:200]} … {rest[-1][:200]}" if rest else first[:200]
