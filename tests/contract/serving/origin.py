"""A real HTTP server on loopback that models are fetched from."""

import base64
from collections import Counter
from http.server import BaseHTTPRequestHandler
from typing import Any

from support.loopback import LoopbackServer

AUTHORIZATION = "Basic " + base64.b64encode(b"ann:secret").decode()


class Origin(LoopbackServer):
    """Serves one model under paths that behave differently; counts the requests of each path."""

    def __init__(self, model: bytes) -> None:
        super().__init__(Handler)
        self.model = model
        self.asked: Counter[str] = Counter()


class Handler(BaseHTTPRequestHandler):
    """Answers by path."""

    server: Origin

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked[path] += 1
        getattr(self, "answer_" + path.strip("/").partition(".")[0], self.answer_missing)()

    def answer_model(self) -> None:
        self._send(200, self.server.model)

    def answer_missing(self) -> None:
        self._send(404)

    def answer_forbidden(self) -> None:
        self._send(403)

    def answer_broken(self) -> None:
        self._send(500)

    def answer_teapot(self) -> None:
        self._send(418)

    def answer_flaky(self) -> None:
        self._send(503) if self.server.asked["/flaky"] < 3 else self.answer_model()

    def answer_private(self) -> None:
        self.answer_model() if self.headers.get("Authorization") == AUTHORIZATION else self._send(401)

    def answer_moved(self) -> None:
        self._send(302, location="/model.onnx")

    def answer_loop(self) -> None:
        self._send(302, location="/loop")

    def answer_astray(self) -> None:
        self._send(302, location="ftp://nowhere/model.onnx")

    def answer_truncated(self) -> None:
        self._send(200, self.server.model, length=len(self.server.model) + 1)

    def _send(self, status: int, body: bytes = b"", *, length: int | None = None, location: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
