"""The listening socket, and how it closes without losing a connection."""

import contextlib
import ctypes
import socket
import struct
from typing import Final

BACKLOG: Final = 2048

SO_ATTACH_FILTER: Final = 26
DROP_SYN: Final = (
    (0x30, 0, 0, 13),  # load the TCP header's flags
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # a SYN alone asks for a new connection
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # let all else pass
)
"""A socket filter in Linux's classic BPF: code, jump if true, jump if false, operand."""


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; an empty host means all addresses. Raises OSError."""
    dual = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual or ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, dualstack_ipv6=dual, backlog=BACKLOG)
    # Connections inherit it. asyncio sets it only on sockets that name TCP as their protocol, and these do not; without
    # it every answer waits some 40 ms for the acknowledgement of its own headers.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def hold_back(listener: socket.socket) -> None:
    """Let no new connection begin, while those that have begun are still completed and accepted.

    A listener that closes resets what connects at that moment: the client is connected already and loses its call.
    Where a kernel knows no filters, that window of microseconds stays.
    """
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in DROP_SYN))
    program = struct.pack("HP", len(DROP_SYN), ctypes.addressof(code))
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def accept_waiting(listener: socket.socket) -> list[socket.socket]:
    """Take the connections that the kernel has completed and nobody accepted, and close the listener."""
    waiting: list[socket.socket] = []
    with contextlib.suppress(OSError), listener:
        while True:
            connection, _ = listener.accept()
            connection.settimeout(0)
            waiting.append(connection)
    return waiting
