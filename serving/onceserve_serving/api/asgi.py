"""What raw ASGI endpoints share."""

from collections.abc import Awaitable, Mapping
from typing import Final, NamedTuple

from starlette.types import Send

from onceserve_serving.api.problems import problem_of

JSON: Final = {"Content-Type": "application/json"}


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def respond(send: Send, answer: Awaitable[Answer]) -> None:
    """Send the answer, or the problem that it raises."""
    try:
        status, headers, body = await answer
    except Exception as error:
        status, headers, body = problem_of(error)
    named = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    named.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": named})
    await send({"type": "http.response.body", "body": body})
