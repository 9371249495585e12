"""Server processes by fork of one that has imported everything and started nothing: in some hundredths of a second.

Such a server runs the command from its first line to the interpreter's end; it only finds its imports done.
"""

import contextlib
import os
import signal
import subprocess
import sys
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import IO, Any, NoReturn


class Fork:
    """A forked process, with what tests ask of a `subprocess.Popen`."""

    def __init__(self, keeper: "Connection[Any, Any]") -> None:
        self.pid: int = keeper.recv()
        self._keeper = keeper
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code if it has ended."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code when it has ended; raises subprocess.TimeoutExpired."""
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def _look(self, seconds: float | None) -> int | None:
        if self._code is None and self._keeper.poll(seconds):
            self._code = self._keeper.recv()
            self._keeper.close()
        return self._code


class Zygote:
    """Starts servers, any number at a time."""

    def __init__(self) -> None:
        # The process that it starts runs this file, too, and knows the server only.
        from images import compiled  # noqa: PLC0415

        # The command sets OPENBLAS_NUM_THREADS before it imports numpy.
        environment = os.environ | {"PYTHONPATH": str(compiled.build()), "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, env=environment)
        assert self._process.stdout is not None
        self._address = ("127.0.0.1", int(self._process.stdout.readline()))

    def start(self, arguments: list[str], *, log: IO[bytes], cwd: Path, env: dict[str, str]) -> Fork:
        """Start the command with these arguments."""
        keeper = Client(self._address)
        keeper.send((arguments, log.name, cwd, env))
        return Fork(keeper)

    def stop(self) -> None:
        """Start no more."""
        with self._process as process:
            process.kill()


def main() -> None:
    """Fork a keeper for each connection, and print the port that takes them."""
    with Listener(("127.0.0.1", 0), backlog=128) as listener:
        print(listener.address[1], flush=True)
        # gRPC's core begins with its first server, not with its import.
        from onceserve_serving import app, serve  # noqa: F401, PLC0415
        from onceserve_serving.api.grpc import server  # noqa: F401, PLC0415

        assert os.listdir("/proc/self/task") == [str(os.getpid())]  # noqa: PTH208
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            with listener.accept() as connection:
                if not os.fork():
                    keep(connection)


def keep(tests: "Connection[Any, Any]") -> NoReturn:
    """Fork one server and tell its process id and later its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    asked = tests.recv()
    pid = os.fork()
    if not pid:
        become_server(*asked)
    tests.send(pid)
    ended: Any = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    tests.send(ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status)
    # A zombie until the tests know, so that they signal no other process of its number.
    with contextlib.suppress(EOFError):
        tests.recv()
    os._exit(0)


def become_server(arguments: list[str], log: str, directory: Path, environment: dict[str, str]) -> NoReturn:
    """Run the command in this process."""
    from onceserve_serving.main import main as command  # noqa: PLC0415

    for descriptor, path in enumerate((os.devnull, log, log)):
        os.dup2(os.open(path, os.O_RDWR | os.O_APPEND), descriptor)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    command(arguments)


if __name__ == "__main__":
    main()
