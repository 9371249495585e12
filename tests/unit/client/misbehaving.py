"""A server that heeds keys and does what a network and a server under stress do, as it is told."""

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Self

import uvicorn

Headers = list[tuple[bytes, bytes]]

STATUSES: dict[str, tuple[int, Headers]] = {
    "busy": (409, []),
    "limited": (429, [(b"retry-after", b"1")]),
    "limited for an hour": (429, [(b"retry-after", b"3600")]),
    "bad gateway": (502, []),
    "unavailable": (503, []),
    "too late": (504, []),
    "moved": (307, [(b"location", b"/elsewhere")]),
}
SLOW = 1.0
"""Seconds until a slow answer."""


class MisbehavingServer:
    """Answers POST /run by one execution a key; what is in `script` is done first, a step for each request.

    drop: the connection breaks before anything is done. lose: it breaks once all is done. cut: it breaks within the
    answer. slow: the answer takes its time. A status, or a name in STATUSES: that is the answer.
    """

    def __init__(self) -> None:
        self.script: deque[str] = deque()
        self.seen: list[tuple[str, str, bytes]] = []
        self.waits: list[str] = []
        self.answers: dict[str, bytes] = {}
        self._server = uvicorn.Server(uvicorn.Config(self._app, log_config=None, lifespan="off", interface="asgi3"))
        self._thread = threading.Thread(target=self._run)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    @property
    def keys(self) -> list[str]:
        return [key for _, key, _ in self.seen]

    def forget(self, *script: str) -> None:
        """Begin anew, with what is to be done first."""
        self.script = deque(script)
        self.seen.clear()
        self.waits.clear()
        self.answers.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])

    async def _app(self, scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        body = (await receive())["body"]
        given = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.waits.append(given.get("prefer", ""))
        key = given.get("idempotency-key", "")
        self.seen.append((scope["method"], key, body))
        step = self.script.popleft() if self.script else "answer"
        if step == "drop":
            self._break()
        elif step in STATUSES or step.isdigit():
            status, headers = STATUSES.get(step) or (int(step), [])
            await _answer(send, status, headers, step.encode())
        else:
            await self._execute(step, key, send)

    async def _execute(self, step: str, key: str, send: Any) -> None:
        replayed = key in self.answers
        answer = self.answers.setdefault(key, b"answer %d" % len(self.answers))
        if step == "slow":
            await asyncio.sleep(SLOW)
        marker = (b"idempotent-replayed", b"true") if replayed else (b"idempotency-attempt", b"1")
        if step == "lose":
            self._break()
        elif step == "cut":
            await _begin(send, 200, [marker, (b"content-length", b"100")])
            await send({"type": "http.response.body", "body": answer, "more_body": True})
            self._break()
        else:
            await _answer(send, 200, [marker], answer)

    def _break(self) -> None:
        for connection in self._server.server_state.connections:
            connection.transport.abort()


async def _answer(send: Any, status: int, headers: Headers, body: bytes) -> None:
    await _begin(send, status, [*headers, (b"content-length", b"%d" % len(body))])
    await send({"type": "http.response.body", "body": body})


async def _begin(send: Any, status: int, headers: Headers) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
