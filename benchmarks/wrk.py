"""wrk, the load generator: from Debian's packages, one thread on one core, its own figures read from its own script."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import processes
from benchmarks.errors import BenchmarkError
from benchmarks.payloads import Payload

TIMEOUT: Final = 30
MARK: Final = "BENCHMARK "
SCRIPT: Final = """\
local file = assert(io.open("{body}", "rb"))
wrk.method = "POST"
wrk.body = file:read("*a")
file:close()
{headers}
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{mark}{{"requests":%d,"micros":%d,"refused":%d,"broken":%d,"p50":%d,"p99":%d,"most":%d}}\\n',
    summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99), latency.max))
end
"""


@dataclass(frozen=True)
class Load:
    """What one load saw: good answers a second, and latencies in microseconds."""

    good_per_second: float
    refused: int
    broken: int
    p50: int
    p99: int
    most: int


def install() -> str:
    """Make sure that wrk is there and return its version; raises BenchmarkError in words where it cannot be."""
    if not shutil.which("wrk"):
        _install()
    shown = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"wrk (\S+)", shown.stdout + shown.stderr)
    return found.group(1) if found else "unknown"


def _install() -> None:
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise BenchmarkError("needs wrk, the load generator: apt-get install wrk (or what your system calls it)")
    print("installing wrk", file=sys.stderr)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", "wrk"]):
        result = subprocess.run(["apt-get", *arguments], env=environment, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise BenchmarkError(f"apt-get could not install wrk:\n{result.stdout}{result.stderr}")


def run(
    url: str, payload: Payload, *, connections: int, seconds: float, core: int, scratch: Path, more: str = ""
) -> Load:
    """Load a server for some seconds, without pause on each connection; `more` is added to wrk's script."""
    script = _write(payload, scratch, more)
    options = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", f"--timeout={TIMEOUT}s", f"-s{script}"]
    command = processes.pinned(core, ["wrk", *options, url])
    return parse(processes.collect(command, seconds + 3 * TIMEOUT))


def parse(output: str) -> Load:
    """Read the line that the script prints; raises BenchmarkError without one."""
    line = next((line for line in output.splitlines() if line.startswith(MARK)), None)
    if line is None:
        raise BenchmarkError(f"wrk printed no result: {output[-500:]}")
    raw: dict[str, Any] = json.loads(line.removeprefix(MARK))
    good = (raw["requests"] - raw["refused"]) / (raw["micros"] / 1e6)
    return Load(round(good, 1), raw["refused"], raw["broken"], raw["p50"], raw["p99"], raw["most"])


def _write(payload: Payload, scratch: Path, more: str) -> Path:
    body, script = scratch / "body", scratch / "load.lua"
    body.write_bytes(payload.body)
    script.write_text(lua(body, payload.headers) + more)
    return script


def lua(body: Path, headers: Mapping[str, str]) -> str:
    """Return the script that posts a file's content."""
    lines = "\n".join(f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items())
    return SCRIPT.format(body=body, headers=lines, mark=MARK)
