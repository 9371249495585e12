"""Asks pods how busy they are, again and again, and keeps what is made of it: a pass looks here and never waits."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from onceserve_operator.api.autoscaling import Autoscaling
from onceserve_operator.autoscaling import load, policy
from onceserve_operator.autoscaling.load import Reading
from onceserve_operator.autoscaling.policy import Memory, Situation
from onceserve_operator.domain import Key, Pod, Scaling
from onceserve_operator.inspection.calls import Calls, NoAnswerError

_LOG: Final = logging.getLogger(__name__)

_TIMEOUT: Final = 1.5
"""Seconds for the answer of a pod: less than a period, so that one that is silent delays no decision."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be scaled."""

    autoscaling: Autoscaling
    replicas: int
    """Pods that are asked for now."""
    pods: tuple[tuple[Pod, str], ...]
    """Ready pods that get traffic, each with how it is called: `http` or `https`."""


class Autoscaler:
    """What is decided for all ModelDeployments. `on_news` is told whose, when a pass should look again.

    At most `concurrency` pods are asked at once. What is known is in memory alone: after a restart pods are taken away
    only when a whole window has been seen. Used within the event loop alone.
    """

    def __init__(
        self,
        on_news: Callable[[Key], None],
        *,
        calls: Calls | None = None,
        concurrency: int = 32,
        period: float = policy.PERIOD,
    ) -> None:
        self._on_news = on_news
        self._calls = calls or Calls(metrics_timeout=_TIMEOUT)
        self._slots = asyncio.Semaphore(concurrency)
        self._period = period
        self._targets: dict[Key, Target] = {}
        self._told: dict[Key, Scaling] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}

    def told(self, key: Key) -> Scaling | None:
        """Return what was decided last; None before the first decision."""
        return self._told.get(key)

    def want(self, key: Key, target: Target | None) -> None:
        """Say what is to be scaled now, None for nothing; what was known of it is forgotten then."""
        if target is not None:
            self._targets[key] = target
            if key not in self._tasks:
                self._tasks[key] = asyncio.create_task(self._follow(key), name=f"scale {key}")
        elif task := self._tasks.pop(key, None):
            task.cancel()
            self._told.pop(key, None)

    async def stop(self) -> None:
        """End all calls, and return when they have ended."""
        tasks = list(self._tasks.values())
        for key in list(self._tasks):
            self.want(key, None)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, key: Key) -> None:
        clock, memory = asyncio.get_running_loop().time, Memory()
        while True:
            due = clock() + self._period
            try:
                memory = await self._look(key, memory)
            except Exception:  # the next look must come, whatever this is; it is logged
                _LOG.exception("%s: looking at the load failed and will be tried again", key)
            await asyncio.sleep(due - clock())

    async def _look(self, key: Key, memory: Memory) -> Memory:
        target = self._targets[key]
        readings = await asyncio.gather(*(self._read(key, pod, scheme) for pod, scheme in target.pods))
        situation = Situation(
            autoscaling=target.autoscaling,
            replicas=target.replicas,
            readings=dict(zip((pod.uid for pod, _ in target.pods), readings, strict=True)),
            revisions=frozenset(pod.revision for pod, _ in target.pods),
        )
        memory, scaling = policy.decide(memory, situation, asyncio.get_running_loop().time())
        before, self._told[key] = self._told.get(key), scaling
        # Told again and again while it is not done: the write may have failed.
        if scaling.replicas != scaling.of or _standing(before) != _standing(scaling):
            self._on_news(key)
        return memory

    async def _read(self, key: Key, pod: Pod, scheme: str) -> Reading | None:
        async with self._slots:
            try:
                return load.read(await self._calls.metrics(pod.address, scheme))
            except (NoAnswerError, ValueError) as error:
                _LOG.debug("%s: pod %s does not tell its load: %s", key, pod.name, error)
                return None


def _standing(scaling: Scaling | None) -> tuple[bool | None, str, str] | None:
    return (scaling.active, scaling.reason, scaling.message) if scaling else None
