"""The sockets of gRPC's core, which shows them to nobody."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from onceserve_serving.listener import hold_back

DESCRIPTORS: Final = Path("/proc/self/fd")


def hold_back_listeners(port: int) -> None:
    """Let no new connection begin, while those that have begun are accepted."""
    for one in _sockets(port):
        if _listens(one):
            hold_back(one)


def close_listeners(port: int) -> None:
    """Refuse new connections, while those that are open go on."""
    for one in _sockets(port):
        if _listens(one):
            # Another descriptor of the same socket may have been first.
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def connections(port: int) -> int:
    """Return how many connections are open."""
    return sum(map(_connected, _sockets(port)))


def _sockets(port: int) -> Iterator[socket.socket]:
    """Yield this process's TCP sockets of a local port, each for as long as it is looked at."""
    for entry in DESCRIPTORS.iterdir():
        # Between the listing and the look the core may close any of them.
        with contextlib.suppress(OSError):
            if entry.is_socket():
                with socket.socket(fileno=os.dup(int(entry.name))) as one:
                    if one.family in (socket.AF_INET, socket.AF_INET6) and one.getsockname()[1] == port:
                        yield one


def _listens(one: socket.socket) -> bool:
    return one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) != 0


def _connected(one: socket.socket) -> bool:
    try:
        one.getpeername()
    except OSError:
        return False
    return True
