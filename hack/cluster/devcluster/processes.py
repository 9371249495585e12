"""Starts, records and ends processes; nothing is ever ended by its name."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from devcluster.errors import StartError
from devcluster.wait import wait_until

# The child records itself before it becomes the component, lest an `up` killed after the fork leave an unknown process.
RECORD_THEN_BECOME = 'read -r line < /proc/self/stat && echo "$line" > "$0" && exec "$@"'
LOG_TAIL_LINES = 25
RECORD_SECONDS = 10


@dataclass(frozen=True)
class Identity:
    """A process for good: pids are used again, a pid with its start time is not."""

    pid: int
    start_time: int


@dataclass(frozen=True)
class Stat:
    """The part of /proc/PID/stat that tells whether a process is the recorded one and lives."""

    identity: Identity
    state: str

    @classmethod
    def parse(cls, line: str) -> "Stat":
        """Read one line of /proc/PID/stat; the command in parentheses may hold anything."""
        pid, _, rest = line.partition(" (")
        fields = rest.rpartition(") ")[2].split()
        return cls(Identity(int(pid), int(fields[19])), fields[0])


@dataclass(frozen=True)
class Process:
    """One process of the cluster, known by its record on disk."""

    component: str
    record: Path
    log: Path

    @property
    def identity(self) -> Identity | None:
        """Return what was recorded, None where nothing was."""
        try:
            return Stat.parse(self.record.read_text()).identity
        except (OSError, ValueError, IndexError):
            return None

    @property
    def pid(self) -> int | None:
        """Return the recorded pid while that very process lives."""
        identity = self.identity
        return identity.pid if identity and is_alive(identity) else None

    @property
    def is_running(self) -> bool:
        """Say whether the recorded process lives."""
        return self.pid is not None

    def has_ended(self) -> bool:
        """Say whether the recorded process is gone."""
        return self.pid is None

    def start(self, command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
        """Start the component in a session of its own, with its output appended to its log."""
        self.record.parent.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.forget()
        self.record.with_suffix(".command").write_text(" ".join(map(str, command)))
        os.posix_spawnp(
            "sh",
            tuple(self.recording(command)),
            {**os.environ, **(environment or {})},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        if not wait_until(lambda: self.identity is not None, RECORD_SECONDS, poll=0.002):
            raise self.failure("did not start")

    def recording(self, command: Sequence[str | Path]) -> list[str | Path]:
        """Return a command that records itself as this process before it becomes the given one."""
        return ["sh", "-c", RECORD_THEN_BECOME, self.record, *command]

    def wait_ready(self, ready: Callable[[], bool], timeout: float) -> None:
        """Wait until the component serves; raise with its log where it ends or takes too long."""
        settled = wait_until(lambda: ready() or self.pid is None, timeout)
        if self.pid is None:
            raise self.failure("ended")
        if not settled:
            raise self.failure(f"was not ready after {timeout:.0f} s")

    def failure(self, what: str) -> StartError:
        """Describe a failure by component, command and the end of the log."""
        with contextlib.suppress(OSError):
            command = self.record.with_suffix(".command").read_text()
            return StartError(f"{self.component} {what}\ncommand: {command}\nlog ({self.log}):\n{self.tail()}")
        return StartError(f"{self.component} {what}")

    def tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """Return the end of the log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return "(no log)"

    def forget(self) -> None:
        """Remove the record of a process that is gone."""
        self.record.unlink(missing_ok=True)
        self.record.with_suffix(".command").unlink(missing_ok=True)


def is_alive(identity: Identity) -> bool:
    """Say whether this very process runs; one that waits to be reaped does not."""
    try:
        stat = Stat.parse(Path(f"/proc/{identity.pid}/stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return False
    if stat.identity != identity:
        return False
    if stat.state == "Z":
        with contextlib.suppress(ChildProcessError):
            os.waitpid(identity.pid, os.WNOHANG)
    return stat.state not in "ZX"


def kill(processes: Iterable[Process], timeout: float = 10) -> None:
    """Kill all at once, wait until each is gone, then forget them."""
    doomed = list(processes)
    for process in doomed:
        if (pid := process.pid) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    for process in doomed:
        if not wait_until(process.has_ended, timeout):
            raise StartError(f"{process.component} (pid {process.pid}) does not die")
        process.forget()
