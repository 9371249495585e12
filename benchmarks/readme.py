"""The table of the kept run beside other servers, as the project's README quotes it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks import results as kept
from benchmarks import table
from benchmarks.errors import BenchmarkError
from benchmarks.machine import ROOT
from benchmarks.results import Case, Results, ratio, spread
from benchmarks.subjects import BATCHING, OURS
from benchmarks.wrk import Load

README: Final = ROOT / "README.md"
BEGIN: Final = "<!-- begin peers.json: python -m benchmarks quote -->\n"
END: Final = "<!-- end peers.json -->\n"


def update(text: str, results: Path) -> str:
    """Return a text in which the table of the kept run, if there is one, stands between the marks.

    Raises BenchmarkError where the marks are missing or the run cannot be read.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise BenchmarkError(f"needs the lines {BEGIN.strip()} and {END.strip()}")
    found = summary(kept.load(results)) if results.exists() else ""
    return before + begin + found + end + after


def summary(results: Results) -> str:
    """Return the table with a line of what it shows and one of where it was made."""
    busy = f"**{table.provisional(results)}**\n\n" if table.provisional(results) else ""
    return (
        "Requests a second on one core, at as many connections as the head says; × is how many requests "
        f"{OURS} answers for one of theirs at the most connections, with tensors in the same form. Of a server with "
        f"several settings each figure is its best.\n\n{busy}{table.markdown(_rows(results))}\n"
        f"Medians of {results.rounds} rounds on {results.started}. {table.machine(results.machine)} "
        "Latencies, memory and what was not served: [peers.md](benchmarks/results/peers.md).\n"
    )


def _rows(results: Results) -> list[list[str]]:
    columns = table.columns(results.cases())
    models = list(dict.fromkeys(model for model, _ in columns))
    head = ["server", "tensors", *(_heading(columns, model) for model in models), "RSS, MB", "ready, s"]
    servers = dict.fromkeys(name.removesuffix(BATCHING) for name in results.subjects())
    wanted = [(server, form) for server in servers for form in _forms(results, server)]
    return [head, *(_row(results, server, form, models) for server, form in wanted)]


def _heading(columns: dict[tuple[str, str], list[Case]], model: str) -> str:
    cases = next(cases for (name, _), cases in columns.items() if name == model)
    return f"{model} ({' / '.join(str(case.connections) for case in cases)})"


def _forms(results: Results, server: str) -> list[str]:
    """Return the forms of a server's rows: JSON even where it serves nothing, the others where it serves them."""
    cases = [one.case for one in results.timings if one.subject.removesuffix(BATCHING) == server]
    return list(dict.fromkeys(["json", *(case.form for case in cases)]))


def _row(results: Results, server: str, form: str, models: Sequence[str]) -> list[str]:
    columns = table.columns(results.cases())
    cells = (_cell(results, server, columns.get((model, form), [])) for model in models)
    return [server, form, *cells, *table.footprint(results, server)[-2:]]


def _cell(results: Results, server: str, cases: Sequence[Case]) -> str:
    loads = [_best(results, server, case) for case in cases]
    if not any(loads):
        return table.excuse(next((results.reason(server, case) for case in cases), None))
    figures = " / ".join(table.rate(one) for one in loads)
    return figures if server == OURS else f"{figures}, {_times(results, cases[-1], loads[-1])}"


def _best(results: Results, server: str, case: Case) -> dict[int, Load]:
    """Return the loads by round of that setting of a server which does best."""
    settings = (results.loads(server + setting, case) for setting in ("", BATCHING))
    return max(settings, key=lambda loads: _median(loads) or 0.0)


def _median(loads: dict[int, Load]) -> float | None:
    found = spread([load.good_per_second for load in loads.values()])
    return found.median if found else None


def _times(results: Results, case: Case, theirs: dict[int, Load]) -> str:
    good = (
        {number: load.good_per_second for number, load in loads.items()}
        for loads in (results.loads(OURS, case), theirs)
    )
    found = ratio(*good)
    return f"{found.median:.3g}×" if found else "–"
