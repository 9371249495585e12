"""The machine that a run was made on: its cores, who gets which, and how quiet it was."""

import os
import platform
import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.errors import BenchmarkError

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGES: Final = ("onceserve", "onnxruntime", "numpy", "orjson", "uvicorn", "uvloop", "httptools")
QUIET: Final = 0.1
"""Share of the cores' time that others may take between two rounds; above it, figures are provisional."""


class Cores(NamedTuple):
    """One core each, so that the load never takes time from the server."""

    server: int
    load: int


@dataclass(frozen=True)
class Machine:
    """What a reader must know to judge the figures."""

    cpu: str
    cores: int
    memory_mb: int
    kernel: str
    python: str
    versions: dict[str, str]
    commit: str
    busy_before: float


def cores() -> Cores:
    """Return the core for servers and the core for the load; raises BenchmarkError with fewer than two."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:  # noqa: PLR2004
        raise BenchmarkError("needs two cores, one for the server and one for the load; this process may use one")
    return Cores(allowed[0], allowed[-1])


def describe(versions: Mapping[str, str]) -> Machine:
    """Look at the machine, with these versions beside our own; takes a second to see how busy it is."""
    return Machine(
        cpu=_first(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo")),
        cores=len(os.sched_getaffinity(0)),
        memory_mb=int(_first(r"MemTotal:\s*(\d+)", Path("/proc/meminfo"))) // 1024,
        kernel=platform.release(),
        python=platform.python_version(),
        versions={name: version(name) for name in PACKAGES} | dict(versions),
        commit=_commit(),
        busy_before=busy_share(1.0),
    )


def busy_share(seconds: float) -> float:
    """Return the share of all cores' time that was used in the coming seconds, 0 to 1."""
    before = _ticks()
    time.sleep(seconds)
    after = _ticks()
    total = after[0] - before[0]
    return round(1 - (after[1] - before[1]) / total, 3) if total else 0.0


def _ticks() -> tuple[int, int]:
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(fields), fields[3] + fields[4]


def _first(pattern: str, path: Path) -> str:
    found = re.search(pattern, path.read_text())
    return found.group(1).strip() if found else "0"


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
