"""Real servers of databases on loopback: started, paused, killed and started again by tests."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from devcluster.cluster import free_ports
from support.debian import program
from support.waiting import PATIENCE, eventually


class DatabaseServer(ABC):
    """A server in a directory of its own, for the duration of a block."""

    ending = signal.SIGTERM
    """What asks it to end without waiting for its clients."""

    def __init__(self) -> None:
        [self.port] = free_ports(1)
        self.directory = Path(tempfile.mkdtemp(prefix="onceserve-"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Return where it is."""

    @abstractmethod
    def command(self) -> Sequence[str | Path]:
        """Return how it is started."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Tell whether it answers."""

    def prepare(self) -> None:  # noqa: B027  most need nothing
        """Make what it needs before its first start."""

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it was not started"
        return self._process

    def entering(self, command: Sequence[str | Path]) -> Sequence[str | Path]:
        """Return how a command of it is run: as whom, and where."""
        return command

    def start(self) -> None:
        with (self.directory / "log").open("ab") as log:
            command = self.entering(self.command())
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.directory
            )
        deadline = time.monotonic() + PATIENCE
        while not self.is_ready():
            words = (self.directory / "log").read_text()
            assert self._process.poll() is None, f"it ended:\n{words}"
            assert time.monotonic() < deadline, f"not ready within {PATIENCE} s:\n{words}"
            time.sleep(0.01)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.resume()
            self.signal(self.ending)
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.kill()
                raise

    def __enter__(self) -> Self:
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.directory)


class Redis(DatabaseServer):
    """A Redis that flushes what it acknowledges, unless told otherwise."""

    def __init__(self, *options: str) -> None:
        super().__init__()
        self._options = options

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> Sequence[str | Path]:
        given = ["--appendonly", "yes", "--appendfsync", "always", "--save", "", *self._options]
        place = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.directory)]
        return [program("redis-server", "redis-server"), *place, *given]

    def is_ready(self) -> bool:
        return self.ask("PING").startswith(("+PONG", "-NOAUTH"))

    @property
    def is_following(self) -> bool:
        """Whether it is a replica that has all that its primary has."""
        return "master_link_status:up" in self.ask("INFO replication")

    def ask(self, command: str) -> str:
        """Return the answer to a command as it comes, or nothing if there is none."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(f"{command}\r\nQUIT\r\n".encode())
                return connection.makefile().read()
        except OSError:
            return ""


class Postgresql(DatabaseServer):
    """A PostgreSQL with one database `onceserve`, which its user `onceserve` owns."""

    ending = signal.SIGINT

    def __init__(self, **settings: str) -> None:
        super().__init__()
        self._settings = settings
        self._data = self.directory / "data"
        self._made = False

    @property
    def url(self) -> str:
        return self.url_of("onceserve")

    def url_of(self, database: str) -> str:
        return f"postgresql://onceserve@127.0.0.1:{self.port}/{database}"

    def entering(self, command: Sequence[str | Path]) -> Sequence[str | Path]:
        return as_postgres(command)

    def prepare(self) -> None:
        initdb = program("initdb", "postgresql")
        give_to_postgres(self.directory)
        options = ["--auth=trust", "--username=onceserve", "--encoding=UTF8", "--no-locale", "--no-sync"]
        command = self.entering([initdb, "--pgdata", self._data, *options])
        subprocess.run(command, check=True, capture_output=True, cwd="/")

    def start(self) -> None:
        super().start()
        if not self._made:
            self.database("onceserve")
            self._made = True

    def database(self, name: str) -> str:
        """Make a database; return its URL."""
        self.execute(f"CREATE DATABASE {name}", database="postgres")
        return self.url_of(name)

    def command(self) -> Sequence[str | Path]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "shared_buffers": "32MB",
            **self._settings,
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [program("postgres", "postgresql"), "-D", self._data, *options]

    def is_ready(self) -> bool:
        command = self.entering([program("pg_isready", "postgresql"), "--host", "127.0.0.1", "--port", str(self.port)])
        return subprocess.run(command, capture_output=True, check=False, cwd="/").returncode == 0

    def signal(self, number: int) -> None:
        # Its backends are processes of their own, which end by themselves where they are asked to.
        pids = children(self.process.pid) if number in (signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL) else []
        super().signal(number)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        pids = children(self.process.pid)
        super().kill()
        # It does not start again before all that shared its memory have ended.
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "its backends end")

    def execute(self, sql: str, database: str = "onceserve") -> str:
        """Return what psql prints for one statement or command."""
        place = ["--host", "127.0.0.1", "--port", str(self.port), "--username", "onceserve", "--dbname", database]
        given = ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1", *place]
        command = self.entering([program("psql", "postgresql"), *given])
        result = subprocess.run(command, input=sql, capture_output=True, text=True, check=False, cwd="/")
        assert result.returncode == 0, result.stderr
        return str(result.stdout).strip()


class PgBouncer(DatabaseServer):
    """A pooler before a PostgreSQL, which gives each transaction another session."""

    def __init__(self, behind: Postgresql) -> None:
        super().__init__()
        self._behind = behind

    @property
    def url(self) -> str:
        return self.url_of("onceserve")

    def url_of(self, database: str) -> str:
        return f"postgresql://onceserve@127.0.0.1:{self.port}/{database}"

    def entering(self, command: Sequence[str | Path]) -> Sequence[str | Path]:
        return as_postgres(command)

    def prepare(self) -> None:
        (self.directory / "pgbouncer.ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={self._behind.port} user=onceserve\n[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\nauth_type = any\n"
            "pool_mode = transaction\ndefault_pool_size = 4\nserver_round_robin = 1\n"
        )
        give_to_postgres(self.directory)

    def command(self) -> Sequence[str | Path]:
        return [program("pgbouncer", "pgbouncer"), "-q", self.directory / "pgbouncer.ini"]

    def is_ready(self) -> bool:
        place = ["--host", "127.0.0.1", "--port", str(self.port)]
        asked = subprocess.run([program("pg_isready", "postgresql"), *place], capture_output=True, check=False)
        return asked.returncode == 0


def as_postgres(command: Sequence[str | Path]) -> Sequence[str | Path]:
    """Return a command that root runs as the account of PostgreSQL, whose programs refuse to run as root."""
    account = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
    return [*account, *command] if os.geteuid() == 0 else command


def give_to_postgres(directory: Path) -> None:
    """Let that account write there."""
    if os.geteuid() == 0:
        shutil.chown(directory, "postgres", "postgres")


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
