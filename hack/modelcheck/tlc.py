"""Runs TLC and reads what it says."""

import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from modelcheck.errors import ModelCheckError
from modelcheck.models import Model, configuration

SPECIFICATION = Path(__file__).resolve().parents[2] / "formal" / "ExactlyOnce.tla"
# The runs are short: a compiler that thinks less is done sooner.
JAVA = ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseParallelGC", "-Xmx1g")
# One thread makes a counterexample to safety a shortest one; the rest makes one to liveness the same each time.
REPEATABLE = ("-workers", "1", "-fp", "0", "-lncheck", "final")
HELD, UNSAFE, NOT_LIVE = 0, 12, 13
LIMIT_SECONDS = 600
TAIL_LINES = 20

COUNTS = re.compile(r"^(\d+) states generated, (\d+) distinct states found", re.MULTILINE)
VIOLATED = re.compile(r"^Error: (?:Invariant|Action property) (\w+) is violated", re.MULTILINE)
NOT_ANSWERED = "Error: Temporal properties were violated."
STATE = re.compile(r"^State (\d+):", re.MULTILINE)


@dataclass(frozen=True)
class Result:
    """What TLC found: states seen, how many of them differ, the violated property and how many steps lead there."""

    states: int
    distinct: int
    violated: str | None
    steps: int
    seconds: float

    def is_as_expected(self, model: Model) -> bool:
        """Tell whether the protocol held, or the mutant was caught by the property that is to catch it."""
        return self.violated is None if model.holds else self.violated in model.properties


def run(model: Model, jar: Path) -> Result:
    """Check one model."""
    with tempfile.TemporaryDirectory(prefix="onceserve-tlc-") as name:
        directory = Path(name)
        (directory / "model.cfg").write_text(configuration(model))
        begun = time.monotonic()
        process = _run(_command(jar, directory), model)
        seconds = time.monotonic() - begun
    if process.returncode not in {HELD, UNSAFE, NOT_LIVE}:
        raise ModelCheckError(f"TLC could not check {model.name!r}:\n{_tail(process.stdout + process.stderr)}")
    return read(process.stdout, model, seconds)


def _command(jar: Path, directory: Path) -> list[str]:
    # TLC unpacks its standard modules into the temporary directory.
    java = [*JAVA, f"-Djava.io.tmpdir={directory}", "-cp", str(jar), "tlc2.TLC"]
    paths = ["-metadir", str(directory / "states"), "-config", str(directory / "model.cfg")]
    return [*java, *REPEATABLE, *paths, SPECIFICATION.name]


def _run(command: list[str], model: Model) -> "subprocess.CompletedProcess[str]":
    try:
        # From the specification's own directory: given its path, TLC looks for the configuration beside it.
        return subprocess.run(
            command,
            cwd=SPECIFICATION.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ModelCheckError(f"TLC took more than {LIMIT_SECONDS} s for {model.name!r}") from error


def read(output: str, model: Model, seconds: float) -> Result:
    """Return what TLC's output says of the model."""
    counts = COUNTS.findall(output)
    if not counts:
        raise ModelCheckError(f"TLC did not finish {model.name!r}:\n{_tail(output)}")
    states, distinct = map(int, counts[-1])
    steps = max(map(int, STATE.findall(output)), default=1) - 1
    return Result(states, distinct, _violated(output, model), steps, seconds)


def _violated(output: str, model: Model) -> str | None:
    if NOT_ANSWERED in output:
        # TLC does not say which; there is one to a model.
        return model.properties[0]
    found = VIOLATED.search(output)
    return found[1] if found else None


def _tail(output: str) -> str:
    return "\n".join(output.rstrip().splitlines()[-TAIL_LINES:])
