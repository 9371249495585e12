"""A client that asks without pause and never retries, as a process of its own that can run in a node's network.

    python load.py URL BODY_FILE SECONDS CLIENTS {new,keep-alive}

Runs for SECONDS at most, or until SIGTERM; then prints one JSON object: calls, failures (each with its time and words),
calls by answering pod, and the different response bodies.
"""

import http.client
import json
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

PAUSE = 0.005
"""Seconds between the calls of one client: a load that two cores carry beside a cluster."""


class Load:
    """What all clients have seen together."""

    def __init__(self, url: str, body: bytes, *, keep_alive: bool) -> None:
        parts = urlsplit(url)
        self._host, self._path = parts.netloc, parts.path
        self._body = body
        self._headers = {"Content-Type": "application/json"} | ({} if keep_alive else {"Connection": "close"})
        self._lock = threading.Lock()
        self.stop = threading.Event()
        self.pods: Counter[str] = Counter()
        self.bodies: Counter[str] = Counter()
        self.failures: list[dict[str, object]] = []

    def client(self) -> None:
        """Ask until told to stop."""
        connection = http.client.HTTPConnection(self._host, timeout=10)
        while not self.stop.is_set():
            try:
                connection.request("POST", self._path, self._body, self._headers)
                response = connection.getresponse()
                self._note(response.status, response.headers.get("onceserve-pod", ""), response.read())
            except (OSError, http.client.HTTPException) as error:
                self._fail(f"{type(error).__name__}: {error}")
                connection.close()
            time.sleep(PAUSE)
        connection.close()

    def _note(self, status: int, pod: str, body: bytes) -> None:
        if status != 200:
            self._fail(f"{status} {body!r}")
            return
        with self._lock:
            self.pods[pod] += 1
            self.bodies[body.decode()] += 1

    def _fail(self, words: str) -> None:
        with self._lock:
            self.failures.append({"at": time.time(), "words": words})


def main() -> None:
    """Run as many clients as asked for."""
    url, body, seconds, clients, connections = sys.argv[1:]
    load = Load(url, Path(body).read_bytes(), keep_alive=connections == "keep-alive")
    signal.signal(signal.SIGTERM, lambda *_: load.stop.set())
    threads = [threading.Thread(target=load.client) for _ in range(int(clients))]
    for thread in threads:
        thread.start()
    load.stop.wait(float(seconds))
    load.stop.set()
    for thread in threads:
        thread.join()
    calls = load.pods.total() + len(load.failures)
    print(json.dumps({"calls": calls, "failures": load.failures, "pods": load.pods, "bodies": load.bodies}))


if __name__ == "__main__":
    main()
