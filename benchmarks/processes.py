"""Servers as processes: started pinned and in a group of their own, ended by their ids, with all that they started."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.errors import BenchmarkError, UnservedError
from benchmarks.machine import ROOT

GRACE: Final = 15.0
"""Seconds that a server has to stop by itself."""
LAST: Final = 3.0
"""Seconds that the processes of a server have to follow it."""
TAIL: Final = 3_000
POLL: Final = 0.01
SUBREAPER: Final = 36
"""PR_SET_CHILD_SUBREAPER: what a server leaves behind becomes our child, so that it is found and ended."""


class Server:
    """A running server process."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, strangers: frozenset[int]) -> None:
        self.process = process
        self._log = log
        self._strangers = strangers

    def family(self) -> list[int]:
        """Return the ids of the server and of everything that descends from it, orphans included."""
        children = _children()
        return _closure([self.process.pid, *self._orphans(children)], children)

    def _orphans(self, children: Mapping[int, Sequence[int]]) -> list[int]:
        known = self._strangers | _ours
        return [pid for pid in children.get(os.getpid(), ()) if pid not in known]

    def end(self) -> None:
        """Ask it to stop, then kill and reap what is left of it."""
        family = self.family()
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE)
        # Python's tracker of shared resources removes them once all who share them have gone: it is killed last.
        if not until(lambda: not self._left(family), LAST):
            _kill(pid for pid in self._left(family) if not _tracks(pid))
        if not until(lambda: not self._left(family), LAST):
            _kill(self._left(family))
        self.process.wait(GRACE)
        until(self._reaped, GRACE)

    def _left(self, family: Iterable[int]) -> set[int]:
        # One whose parent has gone may have left the old list before it joins the new one.
        _bury(self._orphans(_children()))
        known = {pid for pid in family if _alive(pid)} | set(self.family())
        return known - ({self.process.pid} if self.process.poll() is not None else set())

    def _reaped(self) -> bool:
        orphans = self._orphans(_children())
        _kill(orphans)
        _bury(orphans)
        return not orphans

    def tail(self) -> str:
        """Return the end of what it wrote."""
        return self._log.read_text(errors="replace")[-TAIL:]

    def check_alive(self) -> None:
        """Raise UnservedError with its last words if it has ended."""
        if self.process.poll() is not None:
            raise UnservedError(f"ended with {self.process.returncode}:\n{self.tail()}")

    def wait(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until it is ready; raises UnservedError when it ends or takes longer."""

        def settled() -> bool:
            self.check_alive()
            return ready()

        if not until(settled, seconds):
            raise UnservedError(f"did not answer within {seconds:g} s:\n{self.tail()}")


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until a condition holds; tell whether it did in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(POLL)
    return True


@contextlib.contextmanager
def running(command: Sequence[str], *, core: int, log: Path, environment: Mapping[str, str]) -> Iterator[Server]:
    """Run a server pinned to a core; when the block ends, nothing of it is left."""
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    strangers = frozenset(_children().get(os.getpid(), ()))
    with log.open("wb") as output:
        process = subprocess.Popen(
            pinned(core, command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=ROOT,
            env=clean_environment(environment),
            start_new_session=True,
        )
    server = Server(process, log, strangers)
    with known(process.pid):
        try:
            yield server
        finally:
            server.end()


def collect(command: Sequence[str], seconds: float, order: str = "") -> str:
    """Run a load to its end and return what it printed; raises BenchmarkError if it fails or takes longer."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=clean_environment({}),
    )
    with known(process.pid):
        try:
            output, errors = process.communicate(order, timeout=seconds)
        except BaseException as error:
            process.kill()
            process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise BenchmarkError(f"{' '.join(command[:6])} did not end within {seconds:g} s") from error
            raise
    if process.returncode != 0:
        raise BenchmarkError(f"{' '.join(command[:6])} failed with {process.returncode}:\n{output}{errors}")
    return output


_ours: Final[set[int]] = set()


@contextlib.contextmanager
def known(pid: int) -> Iterator[None]:
    """Mark a child as ours while the block runs: a load beside a server must not be taken for an orphan of it."""
    _ours.add(pid)
    try:
        yield
    finally:
        _ours.discard(pid)


def pinned(core: int, command: Sequence[str]) -> list[str]:
    """Return a command that runs on one core."""
    return ["taskset", "--cpu-list", str(core), *command]


def clean_environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return our environment without proxies and without settings of a server of ours."""
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    kept = {name: value for name, value in kept.items() if not name.startswith("ONCESERVE_")}
    return kept | {"PYTHONUNBUFFERED": "1"} | dict(more)


def free_port() -> int:
    """Return a loopback port that nothing listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _bury(pids: Iterable[int]) -> None:
    """Take note of the ends of children, without waiting for them."""
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            found.setdefault(parent, []).append(int(stat.parent.name))
    return found


def _closure(first: Sequence[int], children: Mapping[int, Sequence[int]]) -> list[int]:
    family = list(first)
    for pid in family:
        family += [child for child in children.get(pid, ()) if child not in family]
    return family


def _tracks(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"multiprocessing.resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
