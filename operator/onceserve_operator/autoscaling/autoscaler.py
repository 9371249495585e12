"""Asks pods how busy they are, again and again, and keeps what is made of it: a pass looks here and never waits."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from onceserve_operator.api.autoscaling import Autoscaling
from onceserve_operator.autoscaling import policy
from onceserve_operator.autoscaling.news import News
from onceserve_operator.autoscaling.policy import Memory, Situation
from onceserve_operator.autoscaling.sampling import Sampling, Slots
from onceserve_operator.domain import Key, Pod, Scaling
from onceserve_operator.inspection.calls import Calls

_LOG: Final = logging.getLogger(__name__)

_ANSWERED: Final = 0.75
"""Share of a period in which pods must have answered: less than all of it, so that silent ones delay no decision."""


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

    What is known is in memory alone: after a restart pods are taken away only when a whole window has been seen.
    Used within the event loop alone.
    """

    def __init__(
        self, on_news: Callable[[Key], None], *, calls: Calls | None = None, period: float = policy.PERIOD
    ) -> None:
        self._on_news = on_news
        self._calls = calls or Calls()
        self._slots = Slots()
        self._period = period
        self._followed: dict[Key, _Following] = {}

    def told(self, key: Key) -> Scaling | None:
        """Return what was decided last; None before the first decision."""
        following = self._followed.get(key)
        return following.told if following else None

    def want(self, key: Key, target: Target | None) -> None:
        """Say what is to be scaled now, None for nothing; what was known of it is forgotten then."""
        if target is None:
            if following := self._followed.pop(key, None):
                following.task.cancel()
        elif following := self._followed.get(key):
            following.target = target
        else:
            sampling = Sampling(key, self._calls, self._slots)
            self._followed[key] = _Following(key, target, sampling, self._period, self._on_news)

    async def stop(self) -> None:
        """End all calls, and return when they have ended."""
        tasks = [following.task for following in self._followed.values()]
        for key in list(self._followed):
            self.want(key, None)
        await asyncio.gather(*tasks, return_exceptions=True)


class _Following:
    """What is asked and decided of one ModelDeployment."""

    def __init__(
        self, key: Key, target: Target, sampling: Sampling, period: float, on_news: Callable[[Key], None]
    ) -> None:
        self.target = target
        self.told: Scaling | None = None
        self._key = key
        self._sampling = sampling
        self._period = period
        self._on_news = on_news
        self._memory = Memory()
        self._news = News()
        self.task = asyncio.create_task(self._follow(), name=f"scale {key}")

    async def _follow(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + self._period
            try:
                await self._look()
            except Exception:  # the next look must come, whatever this is; it is logged
                _LOG.exception("%s: looking at the load failed and will be tried again", self._key)
            await asyncio.sleep(due - clock())

    async def _look(self) -> None:
        target = self.target
        situation = Situation(
            autoscaling=target.autoscaling,
            replicas=target.replicas,
            readings=await self._sampling.sample(target.pods, _ANSWERED * self._period),
            revisions=frozenset(pod.revision for pod, _ in target.pods),
        )
        now = asyncio.get_running_loop().time()
        self._memory, self.told = policy.decide(self._memory, situation, now)
        if self._news.are_in(self.told, now):
            self._on_news(self._key)
