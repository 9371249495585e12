"""A client that retries each key until it is answered, and then asks again: a process of its own in a node's network.

    python retries.py URL BODIES_FILE CLIENTS ANSWERS

BODIES_FILE is a JSON list of requests; the n-th key goes with the n-th of them, from the first again after the last.
Takes new keys and asks for old ones until SIGTERM, then asks for each key until it has ANSWERS answers, and prints one
JSON object: what `Report` has.
"""

import http.client
import json
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

NEW = 0.1
"""Share of the calls that take a new key."""
SECONDS = 3
"""Seconds that one call may take: one to a node that died is given up."""
PATIENCE = 180
"""Seconds after which a key that is not answered counts as lost."""
LATER = {409, 429, 503, 504}
"""What says to ask again with the same key."""
PAUSE = 0.2


class Key:
    """One key: every answer that was ever given for it, how often, and by how many attempts at most."""

    def __init__(self, name: str, body: str) -> None:
        self.name = name
        self.body = body.encode()
        self.answers: Counter[tuple[int, str, str, str]] = Counter()
        self.attempt = 0
        self.version = ""


class Client:
    """What all threads have seen together."""

    def __init__(self, url: str, bodies: list[str]) -> None:
        parts = urlsplit(url)
        self._host, self._path = parts.netloc, parts.path
        self._bodies = bodies
        self._lock = threading.Lock()
        self.stop = threading.Event()
        self.keys: list[Key] = []
        self.failures: Counter[str] = Counter()
        self.pods: Counter[str] = Counter()
        self.replays = 0
        self.lost = 0

    def work(self) -> None:
        """Take new keys and ask for old ones until told to stop."""
        while not self.stop.is_set():
            self.ask(self._key())

    def _key(self) -> Key:
        with self._lock:
            if self.keys and random.random() > NEW:
                return random.choice(self.keys)
            number = len(self.keys)
            self.keys.append(Key(f"key-{number}", self._bodies[number % len(self._bodies)]))
            return self.keys[-1]

    def ask(self, key: Key) -> None:
        """Ask with a key until there is an answer."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                status, headers, body = self._call(key)
            except (OSError, http.client.HTTPException) as error:
                self._fail(type(error).__name__)
            else:
                if status not in LATER:
                    self._note(key, status, headers, body)
                    return
                self._fail(str(status))
            time.sleep(PAUSE)
        self.lost += 1

    def _call(self, key: Key) -> tuple[int, http.client.HTTPMessage, str]:
        headers = {"Content-Type": "application/json", "Connection": "close", "Idempotency-Key": f'"{key.name}"'}
        connection = http.client.HTTPConnection(self._host, timeout=SECONDS)
        try:
            connection.request("POST", self._path, key.body, headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read().decode("latin-1")
        finally:
            connection.close()

    def _note(self, key: Key, status: int, headers: http.client.HTTPMessage, body: str) -> None:
        version = headers.get("idempotency-model-version", "")
        with self._lock:
            key.answers[status, headers.get("content-type", ""), version, body] += 1
            key.attempt = max(key.attempt, int(headers.get("idempotency-attempt", 0)))
            key.version = version
            self.pods[headers.get("onceserve-pod", "")] += 1
            self.replays += headers.get("idempotent-replayed") == "true"

    def _fail(self, words: str) -> None:
        with self._lock:
            self.failures[words] += 1

    def owed(self, answers: int) -> Iterator[Key]:
        """Yield each key as often as it was answered too seldom."""
        for key in self.keys:
            yield from [key] * (answers - key.answers.total())

    def report(self) -> dict[str, Any]:
        """Return what was seen: `divergent` are the keys with more than one answer, each with all of them."""
        statuses = Counter(status for key in self.keys for status, *_ in key.answers)
        return {
            "keys": len(self.keys),
            "answers": sum(key.answers.total() for key in self.keys),
            "fewest": min(key.answers.total() for key in self.keys),
            "replays": self.replays,
            "lost": self.lost,
            "failures": self.failures,
            "divergent": {key.name: list(map(list, key.answers)) for key in self.keys if len(key.answers) != 1},
            "statuses": statuses,
            "attempts": Counter(key.attempt for key in self.keys),
            "versions": Counter(key.version for key in self.keys),
            "pods": self.pods,
        }


def main() -> None:
    """Run as many clients as asked for."""
    url, bodies, clients, answers = sys.argv[1:]
    client = Client(url, json.loads(Path(bodies).read_text()))
    signal.signal(signal.SIGTERM, lambda *_: client.stop.set())
    threads = [threading.Thread(target=client.work) for _ in range(int(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with ThreadPoolExecutor(int(clients)) as pool:
        list(pool.map(client.ask, client.owed(int(answers))))
    print(json.dumps(client.report()))


if __name__ == "__main__":
    main()
