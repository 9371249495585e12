"""The real server process, started and stopped by tests."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

import httpx

from images import compiled
from onceserve_contract.environment import PREFIX

T = TypeVar("T")
COMMAND = str(Path(sys.executable).with_name("onceserve"))


def until(look: Callable[[], T | None], what: str, seconds: float = 20) -> T:
    """Return the first thing that `look` finds, or fail."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.005)
    raise AssertionError(f"{what}: not within {seconds} s")


class Process(Protocol):
    """What tests ask of a server's process, as `subprocess.Popen` has it."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, number: int, /) -> None: ...

    def kill(self) -> None: ...


class Server:
    """One `onceserve serve` on a free loopback port, compiled as in its image.

    Its log goes to a file in `home`, where its HOME is as well. What PYTHONPATH names is found before the server.
    """

    def __init__(self, home: Path, *arguments: str, **environment: str) -> None:
        self.home = home
        self.termination_log = home / "termination-log"
        self._log = home / "log"
        (home / "empty").mkdir()
        with self._log.open("wb") as log:
            self.process = self._start(
                ["serve", "--host", "127.0.0.1", "--port", "0", "--grpc-port", "off", *arguments],
                log=log,
                cwd=home / "empty",
                env=self._environment(environment),
            )

    def _start(self, arguments: list[str], *, log: IO[bytes], cwd: Path, env: dict[str, str]) -> Process:
        return subprocess.Popen(
            [COMMAND, *arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=cwd, env=env
        )

    def _environment(self, more: dict[str, str]) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        inherited = {name: value for name, value in inherited.items() if not name.startswith(PREFIX) and name != "HOME"}
        found_first = [*filter(None, [more.get("PYTHONPATH")]), str(compiled.build())]
        own = {"PYTHONPATH": os.pathsep.join(found_first), PREFIX + "TERMINATION_LOG": str(self.termination_log)}
        return inherited | more | own

    def log(self) -> str:
        """Return what the server has written to its standard streams."""
        return self._log.read_text(encoding="utf-8")

    def records(self) -> list[dict[str, Any]]:
        """Return the log's records."""
        return [json.loads(line) for line in self.log().splitlines(keepends=True) if line.endswith("\n")]

    def url(self) -> str:
        """Return the server's address once it listens."""
        return f"http://127.0.0.1:{self.port()}"

    def port(self) -> int:
        """Return the server's port once it listens."""
        return until(self._port, "listening")

    def grpc_target(self) -> str:
        """Return the address of the gRPC server once it listens; it has to be asked for with `--grpc-port 0`."""
        return f"127.0.0.1:{until(lambda: self._logged('grpc_port'), 'gRPC listening')}"

    def ready(self) -> "Server":
        """Wait until the server is ready."""
        until(lambda: any("ready at" in one["message"] for one in self._alive()), "ready")
        return self

    def _alive(self) -> list[dict[str, Any]]:
        assert self.process.poll() is None, self.log()
        return self.records()

    def _port(self) -> int | None:
        return self._logged("port")

    def _logged(self, fact: str) -> int | None:
        return next((one[fact] for one in self._alive() if fact in one), None)

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send the process a signal."""
        self.process.send_signal(number)

    def wait(self, seconds: float = 20) -> int:
        """Return the exit code."""
        return self.process.wait(seconds)

    def stop(self) -> None:
        """End the process, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def termination(self) -> dict[str, str]:
        """Return the termination message."""
        message: dict[str, str] = json.loads(self.termination_log.read_text(encoding="utf-8"))
        return message


def client(server: Server) -> Iterator[httpx.Client]:
    """Yield a client of the server."""
    with httpx.Client(base_url=server.url(), timeout=20, trust_env=False) as one:
        yield one


def row(name: str, datatype: str, data: list[Any], shape: list[int] | None = None) -> dict[str, Any]:
    """Return a request of one input."""
    tensor = {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data}
    return {"inputs": [tensor]}
