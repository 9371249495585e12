"""A load from within the cluster, and what its clients saw from mark to mark."""

import json
import math
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from devcluster.cluster import Cluster
from support.load import GROWTH
from support.waiting import PATIENCE

CLIENT = Path(__file__).with_name("load.py")
CLIENT_NODE = "node-1"


@dataclass
class Seen:
    """When a revision answered."""

    calls: int
    first: float
    last: float


@dataclass
class Window:
    """What clients saw between two marks, or in several windows that were added."""

    begun: float = math.inf
    seconds: float = 0
    refused: int = 0
    """Answers that there was no room, after which a client asked again."""
    failed: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)
    """The first ones, each with its time and words."""
    returns: int = 0
    """Times that one client met a revision again after it had met another."""
    pods: Counter[str] = field(default_factory=Counter)
    bodies: Counter[str] = field(default_factory=Counter)
    latencies: dict[str, Counter[int]] = field(default_factory=dict)
    revisions: dict[str, Seen] = field(default_factory=dict)

    @classmethod
    def read(cls, line: str) -> "Window":
        """Return what the load printed."""
        told = json.loads(line)
        return cls(
            begun=told["begun"],
            seconds=told["ended"] - told["begun"],
            refused=told["refused"],
            failed=told["failed"],
            failures=told["failures"],
            returns=told["returns"],
            pods=Counter(told["pods"]),
            bodies=Counter(told["bodies"]),
            latencies={
                kind: Counter({int(bucket): calls for bucket, calls in buckets.items()})
                for kind, buckets in told["latencies"].items()
            },
            revisions={revision: Seen(**seen) for revision, seen in told["revisions"].items()},
        )

    def add(self, later: "Window") -> None:
        """Take in what was seen later."""
        self.begun = min(self.begun, later.begun)
        self.seconds += later.seconds
        self.refused += later.refused
        self.failed += later.failed
        self.failures += later.failures
        self.returns += later.returns
        self.pods += later.pods
        self.bodies += later.bodies
        for kind, buckets in later.latencies.items():
            self.latencies[kind] = self.latencies.get(kind, Counter()) + buckets
        for revision, seen in later.revisions.items():
            known = self.revisions.get(revision, Seen(0, seen.first, seen.last))
            self.revisions[revision] = Seen(known.calls + seen.calls, known.first, seen.last)

    @property
    def calls(self) -> int:
        """Calls that have ended, however."""
        return self.pods.total() + self.failed

    @property
    def throughput(self) -> float:
        """Answers a second."""
        return self.pods.total() / self.seconds if self.seconds else 0

    def latency(self, quantile: float, kind: str | None = None) -> float:
        """Return the seconds in which this share of calls was answered, of one kind of clients or of all."""
        chosen = [buckets for each, buckets in self.latencies.items() if kind in {None, each}]
        together: Counter[int] = sum(chosen, Counter())
        left = quantile * together.total()
        for bucket, calls in sorted(together.items()):
            left -= calls
            if left <= 0:
                return float(GROWTH**bucket)
        return 0


class Load:
    """A load that runs."""

    def __init__(self, process: "subprocess.Popen[str]", told: IO[str], asked: IO[str]) -> None:
        self._process = process
        self._told = told
        self._asked = asked

    def mark(self) -> Window:
        """End a window; return what was seen in it."""
        self._asked.write("\n")
        self._asked.flush()
        line = self._told.readline()
        assert line, f"the load has ended by itself: {self._process.wait(PATIENCE)}"
        return Window.read(line)

    def end(self) -> Window:
        """End the load; return what was seen in the last window."""
        output, _ = self._process.communicate(timeout=PATIENCE)
        return Window.read(output)


@contextmanager
def running(cluster: Cluster, url: str, body: bytes, clients: Sequence[str]) -> Iterator[Load]:
    """Have clients ask a URL, as `load.py` describes them, until the block ends."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        command = cluster.exec_command(CLIENT_NODE, [sys.executable, str(CLIENT), url, file.name, *clients])
        process = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert process.stdin
        assert process.stdout
        try:
            yield Load(process, process.stdout, process.stdin)
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()
