"""Clients that ask a model, as a process of its own that can run in a node's network.

    python load.py URL BODY_FILE LOOP,CONNECTIONS,CLIENTS[,RATE]...

LOOP closed: each client asks again a moment after its answer. LOOP open: so many CLIENTS share RATE calls a second that
are due whatever the answers take; latency counts from when a call was due. CONNECTIONS new: one for each call;
keep-alive: one for each client; neither asks twice. CONNECTIONS patient: one for each try, and who is told that there
is no room (429) tries again after as long as the answer says (Retry-After), for a minute.

Each line on standard input ends a window and prints what was seen in it, as one line of JSON; the end of the input ends
the load as well. A call belongs to the window in which it ends.
"""

import contextlib
import http.client
import itertools
import json
import math
import random
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

PAUSE = 0.005
"""Seconds between the calls of one client in the closed loop: a load that two cores carry beside a cluster."""
GROWTH = 1.03
"""From one bucket of latency to the next."""
KEPT = 1000
"""Failures whose words are kept, in each window."""
TIMEOUT = 30
"""Seconds after which a call that is not answered has failed."""
PATIENCE = 60
"""Seconds within which a call that is refused is made again."""
HEADERS = {"Content-Type": "application/json"}


class Window:
    """What all clients have seen together from one mark to the next; its size does not grow with the calls."""

    def __init__(self) -> None:
        self.begun = time.time()
        self.failed = 0
        self.refused = 0
        self.failures: list[dict[str, Any]] = []
        self.pods: Counter[str] = Counter()
        self.bodies: Counter[str] = Counter()
        self.latencies: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self.revisions: dict[str, dict[str, float]] = {}
        self.returns = 0

    def note(self, kind: str, revision: str, seconds: float, *, pod: str, body: str) -> None:
        """Count an answer, and when its revision has answered."""
        self.pods[pod] += 1
        self.bodies[body] += 1
        self.latencies[kind][math.ceil(math.log(max(seconds, 1e-6), GROWTH))] += 1
        now = time.time()
        seen = self.revisions.setdefault(revision, {"calls": 0, "first": now})
        seen["calls"] += 1
        seen["last"] = now

    def fail(self, kind: str, words: str) -> None:
        """Count a failure."""
        self.failed += 1
        if len(self.failures) < KEPT:
            self.failures.append({"at": time.time(), "words": f"{kind}: {words}"})

    def report(self) -> str:
        """Return all of it as JSON."""
        return json.dumps({**vars(self), "ended": time.time()})


class Answer(NamedTuple):
    """What a call led to."""

    status: int
    body: bytes
    pod: str
    retry_after: float
    """Seconds."""


class Caller:
    """A connection on which nothing is asked twice."""

    def __init__(self, url: str, body: bytes, connections: str) -> None:
        parts = urlsplit(url)
        self._path, self._body = parts.path, body
        self._headers = HEADERS | ({} if connections == "keep-alive" else {"Connection": "close"})
        self._connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT)

    def call(self) -> Answer:
        """Make a call; raises OSError or HTTPException where there is no answer."""
        try:
            self._connection.request("POST", self._path, self._body, self._headers)
            response = self._connection.getresponse()
            told = response.headers
            retry_after = float(told.get("retry-after", 0))
            return Answer(response.status, response.read(), told.get("onceserve-pod", ""), retry_after)
        except (OSError, http.client.HTTPException):
            self.close()
            raise

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


class PatientCaller(Caller):
    """Asks again while there is no room; `refused` is told each time."""

    def __init__(self, url: str, body: bytes, refused: Callable[[], None]) -> None:
        super().__init__(url, body, "new")
        self._refused = refused

    def call(self) -> Answer:
        until = time.monotonic() + PATIENCE
        while True:
            answer = super().call()
            # Who was refused together does not come back together.
            pause = answer.retry_after * random.uniform(1, 1.5)
            if answer.status != http.client.TOO_MANY_REQUESTS or time.monotonic() + pause > until:
                return answer
            self._refused()
            time.sleep(pause)


class Load:
    """All clients, and the window that is open."""

    def __init__(self, url: str, body: bytes) -> None:
        self._url = url
        self._body = body
        self._lock = threading.Lock()
        self._revisions: dict[bytes, str] = {}
        self._window = Window()
        self.stop = threading.Event()

    def mark(self) -> Window:
        """Begin a window; return the one before."""
        with self._lock:
            done, self._window = self._window, Window()
            return done

    def caller(self, connections: str) -> Caller:
        """Return what one client asks by."""
        if connections == "patient":
            return PatientCaller(self._url, self._body, self._refuse)
        return Caller(self._url, self._body, connections)

    def _refuse(self) -> None:
        with self._lock:
            self._window.refused += 1

    def client(self, kind: str, due: Iterator[float], connections: str) -> None:
        """Ask whenever it is due."""
        with contextlib.closing(self.caller(connections)) as caller:
            self._ask(kind, due, caller)

    def _ask(self, kind: str, due: Iterator[float], caller: Caller) -> None:
        met: list[str] = []
        for begun in due:
            try:
                answer = caller.call()
            except (OSError, http.client.HTTPException) as error:
                with self._lock:
                    self._window.fail(kind, f"{type(error).__name__}: {error}")
                continue
            seconds = time.monotonic() - begun
            with self._lock:
                if answer.status != http.client.OK:
                    self._window.fail(kind, f"{answer.status} {answer.body!r}")
                    continue
                revision = self._revision(answer.body)
                self._window.note(kind, revision, seconds, pod=answer.pod, body=answer.body.decode())
                if revision not in met[-1:]:
                    # It has met another one since.
                    self._window.returns += revision in met
                    met = [*(each for each in met if each != revision), revision]

    def _revision(self, body: bytes) -> str:
        if body not in self._revisions:
            self._revisions[body] = json.loads(body)["model_version"]
        return self._revisions[body]

    def closed(self) -> Iterator[float]:
        """Return when one client asks: a moment after its last answer."""
        while not self.stop.is_set():
            yield time.monotonic()
            time.sleep(PAUSE)

    def open(self, arrivals: Callable[[], float]) -> Iterator[float]:
        """Return when one of several clients asks: when it is its turn, and at once if that has passed."""
        while not self.stop.is_set():
            due = arrivals()
            if self.stop.wait(max(0.0, due - time.monotonic())):
                return
            yield due


def arrivals(rate: float) -> Callable[[], float]:
    """Return a function that gives each call the moment at which it is due."""
    moments = itertools.count(time.monotonic(), 1 / rate)
    # One `next` of a counter in C is not divided among threads.
    return lambda: next(moments)


def threads(load: Load, spec: str) -> Iterator[threading.Thread]:
    """Return clients of one kind."""
    loop, connections, clients, *rate = spec.split(",")
    turns = arrivals(float(rate[0])) if loop == "open" else None
    for _ in range(int(clients)):
        due = load.open(turns) if turns else load.closed()
        yield threading.Thread(target=load.client, args=(f"{loop} {connections}", due, connections))


def main() -> None:
    """Run the clients until the input ends."""
    url, body, *specs = sys.argv[1:]
    load = Load(url, Path(body).read_bytes())
    clients = [thread for spec in specs for thread in threads(load, spec)]
    for thread in clients:
        thread.start()
    for _ in sys.stdin:
        print(load.mark().report(), flush=True)
    load.stop.set()
    for thread in clients:
        thread.join()
    print(load.mark().report(), flush=True)


if __name__ == "__main__":
    main()
