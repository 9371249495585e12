"""Listens on the host's loopback and connects inside a network namespace; a program of its own, without imports."""

import argparse
import asyncio
import contextlib
import ctypes
import os
import socket
from pathlib import Path

CHUNK = 65536
CLONE_NEWNET = 0x40000000


def enter_network(namespace: str | Path) -> None:
    """Move this thread into a network namespace; sockets that exist stay where they were made."""
    descriptor = os.open(namespace, os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(namespace))
    os.close(descriptor)


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one direction until it ends, then pass the end on."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int) -> None:
    """Join an accepted connection with a new one to the target."""
    try:
        far_reader, far_writer = await asyncio.open_connection(host, port)
    except OSError:
        writer.close()
        return
    await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))
    far_writer.close()
    writer.close()


async def serve(listener: socket.socket, host: str, port: int) -> None:
    """Forward connections until this process is ended."""
    server = await asyncio.start_server(lambda reader, writer: join(reader, writer, host, port), sock=listener)
    await server.serve_forever()


def main() -> None:
    """Forward `127.0.0.1:LISTEN` of this namespace to `HOST:PORT` of another."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("listen", type=int)
    parser.add_argument("namespace")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    arguments = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", arguments.listen), backlog=512)
    enter_network(arguments.namespace)
    asyncio.run(serve(listener, arguments.host, arguments.port))


if __name__ == "__main__":
    main()
