"""What the process answers to probes: /healthz, whether all that must move does; /readyz, whether it could lead."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final

_ANSWER_SECONDS: Final = 5


class Health:
    """What must move, each within its time, and what this process still lacks. Read from another thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._deadlines: dict[str, float] = {}
        self._lacks: dict[str, str] = {}

    def expect(self, what: str, within: float) -> None:
        """Say that something moves, and will again in so many seconds at most."""
        self._deadlines[what] = self._clock() + within

    @contextmanager
    def ends(self, what: str, within: float) -> Iterator[None]:
        """Expect the block to end within so many seconds."""
        self.expect(what, within)
        try:
            yield
        finally:
            del self._deadlines[what]

    def lacks(self, what: str, words: str | None) -> None:
        """Say in words what keeps the process from being ready; None: nothing, as far as this goes."""
        if words is None:
            self._lacks.pop(what, None)
        else:
            self._lacks[what] = words

    def stuck(self) -> list[str]:
        """Return what has not moved in time, in words."""
        now = self._clock()
        # A copy, since the other thread goes on.
        late = ((what, now - deadline) for what, deadline in self._deadlines.copy().items() if deadline < now)
        return [f"{what} is {seconds:.0f} s late" for what, seconds in sorted(late)]

    def lacking(self) -> list[str]:
        """Return what keeps the process from being ready, in words."""
        return sorted(self._lacks.copy().values())


def serve(health: Health, port: int) -> ThreadingHTTPServer:
    """Answer probes from a thread of its own, so that an event loop that is stuck is told of."""
    answers = {"/healthz": health.stuck, "/readyz": health.lacking}

    class Handler(BaseHTTPRequestHandler):
        timeout = _ANSWER_SECONDS

        def do_GET(self) -> None:
            """Answer 200, or 503 with the faults, one a line."""
            if self.path not in answers:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            faults = answers[self.path]()
            body = "".join(f"{fault}\n" for fault in faults or ["ok"]).encode()
            self.send_response(HTTPStatus.SERVICE_UNAVAILABLE if faults else HTTPStatus.OK)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:  # noqa: ANN401 - as it is declared
            """Log nothing of probes."""

    server = ThreadingHTTPServer(("0.0.0.0", port), Handler)  # noqa: S104 - the kubelet asks the pod's address
    server.daemon_threads = True
    Thread(target=server.serve_forever, name="probes", daemon=True).start()
    return server
