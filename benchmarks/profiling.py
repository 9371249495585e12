"""Where our server's time goes under load: py-spy's samples as a table of functions."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from benchmarks import environments, processes, rounds
from benchmarks.errors import BenchmarkError
from benchmarks.payloads import Form
from benchmarks.rounds import Plan
from benchmarks.subjects import Ours

PY_SPY: Final = "py-spy==0.4.3"
RATE: Final = 250
LATE: Final = 120.0
TOP: Final = 40
WAITING: Final = ("InferenceThread._work",)
"""Functions that wait in C where py-spy cannot see it; they are no work while nothing runs below them."""


def run(plan: Plan, model: str, form: Form, connections: int) -> str:
    """Profile our server under load; raises BenchmarkError where py-spy may not look."""
    folded = plan.scratch / "folded"
    # From its sources: py-spy does not see what is compiled.
    ours = Ours(environment={"ONCESERVE_GRPC_PORT": "0"})
    with rounds.serving(ours, plan.every_model[model], plan) as found:
        found.check(form)
        rounds.load(found, form, connections, plan.warm_up, plan)
        # The profiler starts some time after its command does, so that the load must outlast it.
        spy = _start(found.server.process.pid, plan.seconds, folded)
        with processes.known(spy.pid):
            load = rounds.load(found, form, connections, plan.seconds + 3, plan)
            _finish(spy)
    head = f"{model} {form}, {connections} connections, {load.good_per_second:.0f} requests/s while profiled\n\n"
    return head + top(folded.read_text().splitlines())


def _start(pid: int, seconds: float, folded: Path) -> "subprocess.Popen[str]":
    where = ["--pid", str(pid), "--duration", str(max(1, round(seconds))), "--rate", str(RATE)]
    command = [environments.uv(), "run", "--no-project", "--with", PY_SPY, "py-spy", "record", *where]
    return subprocess.Popen(
        [*command, "--format", "raw", "--output", str(folded)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        env=processes.clean_environment({}),
    )


def _finish(spy: "subprocess.Popen[str]") -> None:
    try:
        output, _ = spy.communicate(timeout=LATE)
    except BaseException:
        spy.kill()
        spy.communicate()
        raise
    if spy.returncode != 0:
        raise BenchmarkError(f"py-spy failed (it needs root, or the right to trace): {output}")


def top(folded: Iterable[str]) -> str:
    """Return a text table of functions by their own time, with the time of all that they call beside it."""
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for line in folded:
        stack, _, count = line.rpartition(" ")
        frames = [_function(frame) for frame in stack.split(";")]
        if frames[-1].startswith(WAITING):
            continue
        own[frames[-1]] += int(count)
        whole.update(dict.fromkeys(frames, int(count)))
    total = own.total() or 1
    rows = [
        f"{100 * count / total:6.1f} %  {100 * whole[name] / total:6.1f} %  {name}"
        for name, count in own.most_common(TOP)
    ]
    return "\n".join(["     own      whole  function", *rows]) + "\n"


def _function(frame: str) -> str:
    """Return a frame without its line, so that a function's lines add up."""
    head, colon, line = frame.rpartition(":")
    return f"{head})" if colon and line.rstrip(")").isdigit() else frame


def save(text: str, path: Path) -> None:
    """Write the table and show it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    print(text)
    print(f"written to {path}", file=sys.stderr)
