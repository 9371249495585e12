"""A queueing model of pods: each has workers and one queue, takes time to start, and finishes what it has taken."""

import heapq
from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import Final

from onceserve_operator.autoscaling.load import Reading

START_UP: Final = 10.0
"""Seconds until a new pod is ready."""
WORKERS: Final = 8
"""Requests that a pod works on at once."""
SERVICE: Final = 0.2
"""Mean seconds of work in a request."""
QUEUE: Final = 256
"""Requests that may wait in a pod; further ones are refused."""


@dataclass
class Pod:
    """One pod."""

    uid: str
    ready_at: float
    free_at: list[float] = field(default_factory=lambda: [0.0] * WORKERS)
    starts: deque[tuple[float, float]] = field(default_factory=deque)
    """When runs will begin, and after how long a wait."""
    ends: list[float] = field(default_factory=list)
    answered: int = 0
    begun: int = 0
    waited: float = 0.0

    def advance(self, now: float) -> None:
        """Let what has begun by now begin, and what has ended leave."""
        while self.starts and self.starts[0][0] <= now:
            self.begun += 1
            self.waited += self.starts.popleft()[1]
        while self.ends and self.ends[0] <= now:
            heapq.heappop(self.ends)
            self.answered += 1

    def take(self, now: float, work: float) -> float | None:
        """Take a request; return its latency, or None where it is refused."""
        self.advance(now)
        if len(self.ends) >= WORKERS + QUEUE:
            self.answered += 1
            return None
        start = max(now, self.free_at[0])
        heapq.heapreplace(self.free_at, start + work)
        heapq.heappush(self.ends, start + work)
        self.starts.append((start, start - now))
        return start + work - now

    def reading(self, now: float) -> Reading:
        """Return what it tells."""
        self.advance(now)
        return Reading(len(self.ends), self.answered, self.begun, self.waited)


class Fleet:
    """All pods of a model."""

    def __init__(self, replicas: int, dice: Random) -> None:
        self._dice = dice
        self._made = 0
        self._pods: list[Pod] = []
        self.scale(replicas, now=-START_UP)

    @property
    def replicas(self) -> int:
        """Pods that are asked for."""
        return len(self._pods)

    def ready(self, now: float) -> list[Pod]:
        """Return those that get traffic."""
        return [pod for pod in self._pods if pod.ready_at <= now]

    def scale(self, replicas: int, now: float) -> None:
        """Ask for so many pods: the youngest go first."""
        while len(self._pods) < replicas:
            self._made += 1
            self._pods.append(Pod(f"pod-{self._made}", now + START_UP))
        del self._pods[replicas:]

    def call(self, now: float) -> float | None:
        """Send a request to any ready pod; return its latency, or None where it is refused."""
        return self._dice.choice(self.ready(now)).take(now, self._dice.expovariate(1 / SERVICE))
