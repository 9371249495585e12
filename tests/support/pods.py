"""What stands for the servers of pods in a cluster without nodes: it answers the operator, on loopback."""

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from onceserve_contract import http, verification
from support.certificates import Authority

RIGHT, WRONG, BUSY, ENCRYPTED = "127.83.0.1", "127.83.0.2", "127.83.0.4", "127.83.0.3"
"""Addresses of pods whose model runs well, of those whose model does not, of those that tell how busy they are, and of
those that speak TLS."""

INFLIGHT: dict[str, float] = {}
"""By address: requests that each pod there has in work or waiting. One that is not named does not tell."""

DIGEST = "5" * 64
_SMOKE: dict[str, dict[str, Any]] = {
    RIGHT: {"outputs": [], "finite": True},
    WRONG: {"error": "the model divides by zero"},
    BUSY: {"outputs": [], "finite": True},
    ENCRYPTED: {"outputs": [], "finite": True},
}


class _Pod(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = self.path == verification.PATH and self.headers.get(verification.HEADER)
        smoke = _SMOKE[str(self.connection.getsockname()[0])]
        answer = {"name": "risk", "version": "1", "sha256": DIGEST, "smoke": smoke}
        body = json.dumps(answer | {"answers": [smoke] * len(asked["requests"])}).encode()
        self._answer(200 if known else 404, "application/json", body)

    def do_GET(self) -> None:
        inflight = INFLIGHT.get(str(self.connection.getsockname()[0]))
        known = self.path == http.METRICS_PATH and inflight is not None
        self._answer(200 if known else 404, "text/plain", f"onceserve_inflight_requests {inflight}\n".encode())

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base's name
        """Say nothing: what the operator made of it is in its own log."""


@contextmanager
def answering(directory: Path) -> Iterator[None]:
    """Have pods answer at all addresses for the duration of a block."""
    servers = [ThreadingHTTPServer((address, http.PORT), _Pod) for address in _SMOKE]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority().issue().write(directory))
    servers[-1].socket = context.wrap_socket(servers[-1].socket, server_side=True)
    threads = [Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()
