"""Runs the long steps of a build, and tells how far they are."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from images.errors import ImageError

PROGRESS_SECONDS = 10
TERMINAL_SECONDS = 1
TAIL_LINES = 40
WIDTH = 110


def query(
    command: Sequence[str | Path], environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a short command and return what it says; that the program is missing counts as failure."""
    try:
        return subprocess.run(
            command,
            env=_environment(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        return subprocess.CompletedProcess(list(command), 127, "", str(error))


def run(
    what: str,
    command: Sequence[str | Path],
    log: Path,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> None:
    """Run a long command with its output in a log; raise with the end of that if it fails."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            env=_environment(environment),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
    try:
        code = _watch(process, what, log)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if code != 0:
        words = " ".join(map(str, command))
        raise ImageError(f"{what} failed with status {code}: {words}\n{_tail(log, TAIL_LINES)}\nall of it: {log}")


def _environment(more: Mapping[str, str] | None) -> dict[str, str]:
    return {**os.environ, **(more or {})}


def _watch(process: "subprocess.Popen[bytes]", what: str, log: Path) -> int:
    begun = time.monotonic()
    interval = TERMINAL_SECONDS if sys.stderr.isatty() else PROGRESS_SECONDS
    _tell(f"{what} …")
    while True:
        try:
            code = process.wait(interval)
        except subprocess.TimeoutExpired:
            _tell(f"{what}: {time.monotonic() - begun:.0f} s: {_tail(log, 1)}")
            continue
        _tell(f"{what}: {'done' if code == 0 else 'failed'} after {time.monotonic() - begun:.0f} s", end="\n")
        return code


def _tell(text: str, end: str = "") -> None:
    """Rewrite the line on a terminal, add one elsewhere."""
    if sys.stderr.isatty():
        print(f"\r{text[:WIDTH]:{WIDTH}}", end=end, file=sys.stderr, flush=True)
    else:
        print(text, file=sys.stderr, flush=True)


def _tail(log: Path, lines: int) -> str:
    return "\n".join(log.read_text(errors="replace").rstrip().splitlines()[-lines:])
