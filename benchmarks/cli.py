"""Command line of the benchmarks."""

import argparse
import dataclasses
import json
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

from benchmarks import (
    environments,
    flatness,
    grpc_load,
    keyed,
    limits,
    machine,
    models,
    overload,
    profiling,
    readme,
    reports,
    rounds,
    subjects,
    table,
    wrk,
)
from benchmarks.autoscaling import report
from benchmarks.autoscaling.policies import POLICIES
from benchmarks.autoscaling.replay import replay
from benchmarks.autoscaling.traces import TRACES
from benchmarks.errors import BenchmarkError
from benchmarks.fleet import measure
from benchmarks.fleet import report as fleet_report
from benchmarks.payloads import Form
from benchmarks.results import Results, load
from benchmarks.rounds import Plan

RESULTS: Final = Path(__file__).parent / "results"
INTERRUPTED: Final = 130
CONNECTIONS: Final[Mapping[str, Sequence[int]]] = {
    "risk": (1, 16, 64),
    "mlp": (1, 16, 64),
    "cnn": (1, 16),
    "image": (1, 16),
}


@dataclasses.dataclass(frozen=True)
class Extent:
    """How much a run measures: rounds, seconds a load, seconds of the overload and of the look at memory."""

    rounds: int
    seconds: float
    warm_up: float
    overload: float = 0
    memory: float = 0
    models: tuple[str, ...] = tuple(CONNECTIONS)


class Extents(NamedTuple):
    """How much the runs of one suite measure."""

    quick: Extent
    usual: Extent
    full: Extent


LIMITS: Final = Extents(
    quick=Extent(rounds=1, seconds=1, warm_up=1, overload=4, memory=10),
    usual=Extent(rounds=3, seconds=3, warm_up=1, overload=10, memory=60),
    full=Extent(rounds=5, seconds=5, warm_up=2, overload=30, memory=600),
)
PEERS: Final = Extents(
    quick=Extent(rounds=1, seconds=1, warm_up=1, models=("risk",)),
    usual=Extent(rounds=2, seconds=2, warm_up=1),
    full=Extent(rounds=3, seconds=3, warm_up=1),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    # What is running is ended by leaving the blocks that started it.
    signal.signal(signal.SIGTERM, _terminated)
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(given)
    options.shown = shlex.join(["python", "-m", "benchmarks", *given])
    try:
        with tempfile.TemporaryDirectory(prefix="onceserve-benchmarks-") as scratch:
            options.run(options, Path(scratch))
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmarks: interrupted; nothing was written", file=sys.stderr)
        return INTERRUPTED
    return 0


def _terminated(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(prog="benchmarks", description=sys.modules["benchmarks"].__doc__)
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    _add_limits(commands)
    _add_peers(commands)
    _add_profile(commands)
    command = commands.add_parser("operator", help="the operator with many ModelDeployments")
    command.add_argument("--sizes", type=int, nargs="+", default=[100, 300, 1000], help="how many, growing")
    command.add_argument("--output", type=Path, default=RESULTS, help="directory for the results")
    command.set_defaults(run=run_operator)
    command = commands.add_parser("autoscaling", help="load traces replayed through autoscaling policies, simulated")
    command.set_defaults(run=run_autoscaling)
    command = commands.add_parser("quote", help="write the kept run beside other servers into the README")
    command.set_defaults(run=run_quote)
    return top


def _add_limits(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = _suite(commands, "limits", "our server beside the bare model and an empty application", run_limits)
    command.add_argument("--memory-seconds", type=float, help="how long memory is watched under load")
    command.add_argument("--overload-seconds", type=float, help="how long the overload lasts")
    command.add_argument(
        "--only", choices=("grpc", "keys", "overload", "memory"), help="leave out the rounds and the rest"
    )


def _add_peers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = _suite(commands, "peers", "our server beside other model servers", run_peers)
    names = [peer.name for peer in subjects.PEERS]
    command.add_argument("--peer", action="append", choices=names, metavar="NAME", help=f"of {'; '.join(names)}")


def _suite(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str, run: object
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text)
    command.set_defaults(run=run)
    extent = command.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="one short round, in a minute or two")
    extent.add_argument("--full", action="store_true", help="more and longer rounds, everything there is")
    command.add_argument("--rounds", type=int)
    command.add_argument("--seconds", type=float, help="of each load")
    command.add_argument("--model", action="append", choices=tuple(CONNECTIONS))
    command.add_argument("--output", type=Path, default=RESULTS, help="directory for the results")
    return command


def _add_profile(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("profile", help="where our server's time goes, by function (py-spy)")
    command.set_defaults(run=run_profile)
    command.add_argument("--model", choices=tuple(CONNECTIONS), default="risk")
    command.add_argument("--form", choices=[form.value for form in Form], default=Form.JSON.value)
    command.add_argument("--connections", type=int, default=64)
    command.add_argument("--seconds", type=float, default=8)
    command.add_argument("--output", type=Path, default=RESULTS)


def run_limits(options: argparse.Namespace, scratch: Path) -> None:
    """Measure our server against its limits, overload it, and watch its memory."""
    extent = _extent(options, LIMITS)
    plan, results = _plan(extent, scratch), _results(options, extent)
    if options.only is None:
        limits.run(plan, results)
    parts: dict[str, Callable[[], tuple[object, str]]] = {
        "grpc": lambda: _grpc(plan),
        "keys": lambda: _keys(plan),
        "overload": lambda: _overload(plan, options.overload_seconds or extent.overload),
        "memory": lambda: _memory(plan, options.memory_seconds or extent.memory),
    }
    wanted = [name for name in parts if options.only in (None, name)]
    sections = [_section(name, parts[name], results) for name in wanted]
    head = reports.limits(results) if options.only is None else table.preamble(results, f"The server: {options.only}")
    _write(results, "\n".join([head, *sections]), options, options.only or "limits")


def _section(name: str, run: Callable[[], tuple[object, str]], results: Results) -> str:
    # The rounds before it took minutes: they are worth keeping when this part fails.
    try:
        results.extra[name], text = run()
    except BenchmarkError as error:
        results.extra[name] = {"failed": str(error)}
        return f"{name}: failed: {str(error).strip().splitlines()[0]}\n"
    return text


def _grpc(plan: Plan) -> tuple[object, str]:
    found = grpc_load.run(plan)
    return [dataclasses.asdict(one) for one in found], grpc_load.markdown(found)


def _keys(plan: Plan) -> tuple[object, str]:
    found = keyed.run(plan)
    return [dataclasses.asdict(one) for one in found], keyed.markdown(found)


def _overload(plan: Plan, seconds: float) -> tuple[object, str]:
    found = overload.run(plan, seconds)
    return dataclasses.asdict(found), overload.markdown(found)


def _memory(plan: Plan, seconds: float) -> tuple[object, str]:
    found = flatness.run(plan, seconds)
    return dataclasses.asdict(found), flatness.markdown(found)


def run_peers(options: argparse.Namespace, scratch: Path) -> None:
    """Measure our server and its peers."""
    extent = _extent(options, PEERS)
    chosen = _chosen(options)
    versions = environments.versions(peer.directory for peer in chosen)
    plan, results = _plan(extent, scratch), _results(options, extent, versions)
    rounds.run([subjects.Ours(), *chosen], plan, results)
    _write(results, reports.peers(results), options, "peers")


def _chosen(options: argparse.Namespace) -> list[subjects.Peer]:
    if options.peer:
        return [peer for peer in subjects.PEERS if peer.name in options.peer]
    return [peer for peer in subjects.PEERS if peer.usual or options.full]


def run_autoscaling(options: argparse.Namespace, scratch: Path) -> None:
    """Replay all traces through all policies; write the results, their table and their picture."""
    del options, scratch
    outcomes = {
        name: {policy: replay(trace, make()) for policy, make in POLICIES.items()} for name, trace in TRACES.items()
    }
    raw = {name: {policy: one.as_dict() for policy, one in found.items()} for name, found in outcomes.items()}
    (RESULTS / "autoscaling.json").write_text(json.dumps(raw, separators=(",", ":")) + "\n")
    (RESULTS / "autoscaling.md").write_text(report.page(outcomes))
    (RESULTS.parents[1] / "docs" / "autoscaling.svg").write_text(report.picture(outcomes))
    print(report.table(outcomes))


def run_quote(options: argparse.Namespace, scratch: Path) -> None:
    """Write the kept run's report anew, and its table into the project's README."""
    del options, scratch
    raw = RESULTS / "peers.json"
    if not raw.exists():
        raise BenchmarkError(f"no run is kept as {raw.name}: make bench-peers writes one")
    raw.with_suffix(".md").write_text(reports.peers(load(raw)))
    readme.README.write_text(readme.update(readme.README.read_text(), raw))


def run_profile(options: argparse.Namespace, scratch: Path) -> None:
    """Write a table of functions by their time."""
    wrk.install()
    plan = _plan(Extent(1, options.seconds, 1, 0, 0, (options.model,)), scratch)
    text = profiling.run(plan, options.model, Form(options.form), options.connections)
    profiling.save(text, options.output / f"profile-{options.model}-{options.form}.txt")


def _extent(options: argparse.Namespace, extents: Extents) -> Extent:
    chosen = extents.full if options.full else extents.quick if options.quick else extents.usual
    given = {name: getattr(options, name) for name in ("rounds", "seconds") if getattr(options, name)}
    if options.model:
        given["models"] = tuple(dict.fromkeys(options.model))
    return dataclasses.replace(chosen, **given)


def _plan(extent: Extent, scratch: Path) -> Plan:
    # The overload and the look at memory have models of their own.
    made = models.make(tuple(CONNECTIONS), scratch)
    chosen = {name: made[name] for name in extent.models}
    return Plan(extent.rounds, extent.seconds, extent.warm_up, chosen, made, CONNECTIONS, machine.cores(), scratch)


def _results(options: argparse.Namespace, extent: Extent, versions: Mapping[str, str] | None = None) -> Results:
    described = machine.describe({"wrk": wrk.install(), **(versions or {})})
    now = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    return Results(options.shown, described, now, extent.rounds, extent.seconds)


def _write(results: Results, text: str, options: argparse.Namespace, name: str) -> None:
    stem = f"{name}-quick" if options.quick else name
    results.save(options.output / f"{stem}.json")
    (options.output / f"{stem}.md").write_text(text)
    print(text)
    print(f"written to {options.output / stem}.md and .json", file=sys.stderr)


def run_operator(options: argparse.Namespace, scratch: Path) -> None:
    """Measure the operator; write what it took, its table and its picture."""
    seen = machine.describe({})
    found = measure.measure(options.sizes, scratch)
    raw = {"machine": dataclasses.asdict(seen), "sizes": [dataclasses.asdict(one) for one in found]}
    (options.output / "operator.json").write_text(json.dumps(raw, indent=1) + "\n")
    (options.output / "operator.md").write_text(fleet_report.page(found, seen, options.shown))
    (options.output / "operator.svg").write_text(fleet_report.picture(found))
    print(fleet_report.table(found))
