"""Our server beside what bounds it: the bare model and an application that does nothing on the same uvicorn."""

import json
import sys
from typing import Any, Final

from benchmarks import processes, rounds, table
from benchmarks.models import Model
from benchmarks.results import Case, RawRun, Results, Spread, ratio, spread
from benchmarks.rounds import Plan
from benchmarks.subjects import EMPTY, OURS, Empty, Ours

BATCHES: Final = (1, 32)
LATE: Final = 60.0


def run(plan: Plan, results: Results) -> None:
    """Measure the bare model, the empty application and our server, round after round."""
    for number in range(1, plan.rounds + 1):
        for model in plan.models.values():
            results.raw.extend(_bare(model, number, batch, plan) for batch in BATCHES)
        rounds.run_round((Empty(), Ours()), number, plan, results)


def _bare(model: Model, number: int, batch: int, plan: Plan) -> RawRun:
    program = [sys.executable, "-m", "benchmarks.apps.raw", str(model.path), str(plan.seconds), str(batch)]
    found: dict[str, Any] = json.loads(
        processes.collect(processes.pinned(plan.cores.server, program), plan.seconds + LATE)
    )
    return RawRun(model.name, number, batch, found["rows_per_second"], round(found["p50"], 1))


def rows_per_second(results: Results, model: str, batch: int = 1) -> dict[int, float]:
    """Return the bare model's rows a second by round."""
    return {one.round: one.rows_per_second for one in results.raw if (one.model, one.batch) == (model, batch)}


def shares(results: Results) -> str:
    """Return the table of our throughput as shares of both limits."""
    rows = [["case", "of the empty app", "of `session.run`, one row a run", "of `session.run`, 32 rows a run"]]
    for case in results.cases():
        good = {number: load.good_per_second for number, load in results.loads(OURS, case).items()}
        if good:
            bare = (table.percent(ratio(good, rows_per_second(results, case.model, batch))) for batch in BATCHES)
            rows.append([_title(case), table.percent(_of_empty(results, case, good)), *bare])
    return table.markdown(rows)


def _of_empty(results: Results, case: Case, good: dict[int, float]) -> Spread | None:
    return ratio(good, {number: load.good_per_second for number, load in results.loads(EMPTY, case).items()})


def _title(case: Case) -> str:
    return f"{case.model} {case.form}, {case.connections} connection{'s' if case.connections > 1 else ''}"


def added(results: Results) -> str:
    """Return the table of what a single request costs beyond the model, beside what the empty application costs."""
    rows = [
        ["one connection", "`session.run` p50, µs", "added by the empty app, µs", "added by the server, µs", "p99, µs"]
    ]
    single = (case for case in results.cases() if case.connections == 1 and results.loads(OURS, case))
    rows.extend(_added(results, case) for case in single)
    return table.markdown(rows)


def _added(results: Results, case: Case) -> list[str]:
    bare = spread([one.p50 for one in results.raw if (one.model, one.batch) == (case.model, 1)])
    ours, empty = _latency(results, OURS, case), _latency(results, EMPTY, case)
    far = spread([load.p99 for load in results.loads(OURS, case).values()])
    run = bare.median if bare else 0.0
    return [
        f"{case.model} {case.form}",
        f"{run:.0f}",
        f"{empty.median:.0f}" if empty else "–",
        f"{ours.median - run:.0f}" if ours else "–",
        f"{far.median:.0f}" if far else "–",
    ]


def _latency(results: Results, subject: str, case: Case) -> Spread | None:
    return spread([load.p50 for load in results.loads(subject, case).values()])


def binary_over_json(results: Results) -> str:
    """Return the table of what binary tensors bring over JSON."""
    rows = [["binary over JSON", "1 connection", "16 connections"]]
    rows.extend(
        [model, *(table.factor(_binary(results, model, count)) for count in (1, 16))]
        for model in dict.fromkeys(case.model for case in results.cases())
    )
    return table.markdown(rows)


def _binary(results: Results, model: str, connections: int) -> Spread | None:
    json_form, binary = (
        {number: load.good_per_second for number, load in results.loads(OURS, Case(model, form, connections)).items()}
        for form in ("json", "binary")
    )
    return ratio(binary, json_form)
