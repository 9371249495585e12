"""What a run found, as it is kept: raw figures of every round in JSON."""

import dataclasses
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from benchmarks.errors import BenchmarkError
from benchmarks.machine import Machine
from benchmarks.memory import Memory
from benchmarks.wrk import Load


class Case(NamedTuple):
    """One thing that is measured of every server: a model in a form at a number of connections."""

    model: str
    form: str
    connections: int


@dataclass(frozen=True)
class Timing:
    """One load of one server in one round."""

    subject: str
    case: Case
    round: int
    load: Load


@dataclass(frozen=True)
class Unserved:
    """A case that a server did not serve, and its words; `form` is empty where it did not even start."""

    subject: str
    model: str
    form: str
    reason: str


@dataclass(frozen=True)
class Footprint:
    """Memory of one server with one model, and the seconds from its start to its first right answer."""

    subject: str
    model: str
    round: int
    ready_seconds: float
    idle: Memory
    loaded: Memory


@dataclass(frozen=True)
class RawRun:
    """`session.run` in a process of its own, with nothing around it."""

    model: str
    round: int
    batch: int
    rows_per_second: float
    p50: float
    """Microseconds a run."""


@dataclass
class Results:
    """Everything that one run found."""

    command: str
    machine: Machine
    started: str
    rounds: int
    seconds: float
    timings: list[Timing] = field(default_factory=list)
    unserved: list[Unserved] = field(default_factory=list)
    footprints: list[Footprint] = field(default_factory=list)
    raw: list[RawRun] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    """Share of the cores' time that was taken before each round, when nothing of ours ran."""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def busiest(self) -> float:
        """The largest share of the cores' time that others took whenever it was looked at."""
        return max([self.machine.busy_before, *self.busy])

    def loads(self, subject: str, case: Case) -> dict[int, Load]:
        """Return a server's loads in one case by round."""
        return {one.round: one.load for one in self.timings if (one.subject, one.case) == (subject, case)}

    def note(self, unserved: Unserved) -> None:
        """Keep what a server did not serve, and say so; once, however many rounds found it."""
        if unserved not in self.unserved:
            print(f"not served: {unserved.reason.splitlines()[0]}", file=sys.stderr, flush=True)
            self.unserved.append(unserved)

    def cases(self) -> list[Case]:
        """Return the cases that any server served, in the order in which they were measured."""
        return list(dict.fromkeys(one.case for one in self.timings))

    def subjects(self) -> list[str]:
        """Return all servers that were tried, in their order."""
        tried = [one.subject for one in self.footprints] + [one.subject for one in self.unserved]
        return list(dict.fromkeys(tried))

    def reason(self, subject: str, case: Case) -> str | None:
        """Return why a server has no figure in a case."""
        reasons = (
            one.reason
            for one in self.unserved
            if one.subject == subject and one.model == case.model and one.form in ("", case.form)
        )
        return next(reasons, None)

    def save(self, path: Path) -> None:
        """Write all of it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False) + "\n")


def load(path: Path) -> Results:
    """Return what a run wrote; raises BenchmarkError where it is not such a file."""
    try:
        return TypeAdapter(Results).validate_json(path.read_bytes())
    except ValidationError as error:
        raise BenchmarkError(f"{path.name} is not what a run writes: {error}") from error


class Spread(NamedTuple):
    """The median of several rounds, and the least and most of them."""

    median: float
    least: float
    most: float


def spread(values: list[float]) -> Spread | None:
    """Return the spread of some values; None of none."""
    return Spread(median(values), min(values), max(values)) if values else None


def ratio(above: dict[int, float], below: dict[int, float]) -> Spread | None:
    """Return how many times one server does what another does, paired by round; None where they share no round."""
    return spread([above[each] / below[each] for each in above if below.get(each)])
