import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from benchmarks.apps.openloop import Load, Order, Outcome, content_length

REQUEST = b"POST / HTTP/1.1\r\nhost: x\r\n\r\n"


@contextlib.asynccontextmanager
async def server(answers: Sequence[bytes]) -> AsyncIterator[int]:
    """Answers the first request with the first of these, and so on; after the last it answers nothing."""
    left = list(answers)
    serving: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n") and left:
                writer.write(left.pop(0))
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.create_task(serve(reader, writer)))

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1]
    await asyncio.gather(*serving)


def answer(status: int) -> bytes:
    return b"HTTP/1.1 %d Word\r\nContent-Length: 2\r\n\r\nok" % status


async def outcome(tmp_path: Path, answers: Sequence[bytes], rate: float = 20, connections: int = 3) -> Outcome:
    request = tmp_path / "request"
    request.write_bytes(REQUEST)
    async with server(answers) as port:
        return await Load(Order(port, str(request), rate, 0.2, connections)).run(drain=0.1)


async def test_answers_are_counted_by_status(tmp_path: Path) -> None:
    found = await outcome(tmp_path, [answer(200), answer(429), answer(200), answer(200)])

    assert (found.sent, found.unsent, found.broken) == (4, 0, 0)
    assert found.statuses == {200: 3, 429: 1}
    assert (len(found.good), len(found.refused)) == (3, 1)


async def test_a_closed_connection_is_a_broken_request(tmp_path: Path) -> None:
    found = await outcome(tmp_path, [answer(200), answer(200), answer(200)])

    assert found.broken == 1


async def test_nothing_is_sent_while_every_connection_waits(tmp_path: Path) -> None:
    late = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"

    found = await outcome(tmp_path, [late], connections=1)

    assert (found.sent, found.unsent) == (1, 3)


def test_the_length_of_a_body_is_read_whatever_its_case() -> None:
    assert content_length(b"HTTP/1.1 200 OK\r\nContent-length: 17\r\nx: y") == 17
    assert content_length(b"HTTP/1.1 204 No Content") == 0
