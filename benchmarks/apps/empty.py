"""The empty ASGI application on uvicorn, set up as our server sets it up: `python -m benchmarks.apps.empty PORT`."""

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias

import uvicorn

Message: TypeAlias = MutableMapping[str, Any]

BODY: Final = b'{"model_name":"none","outputs":[{"name":"y","shape":[1,1],"datatype":"FP32","data":[0.5]}]}'
START: Final = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))],
}
LARGE: Final = 65_536
"""Bytes up to which uvicorn takes a body from the socket without being asked."""


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """Answer the same to everything; a large body is taken first, as the sender expects."""
    if int(dict(scope["headers"]).get(b"content-length", b"0")) > LARGE:
        while (await receive()).get("more_body"):
            pass
    await send(START)
    await send({"type": "http.response.body", "body": BODY})


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), log_config=None, access_log=False, lifespan="off", ws="none"
    )
