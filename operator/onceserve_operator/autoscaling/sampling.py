"""Asks pods how busy they are, and has an end in time: those that are silent hold up no others."""

import asyncio
import logging
import math
from collections.abc import Sequence
from typing import Final

from onceserve_operator.autoscaling import load
from onceserve_operator.autoscaling.load import Reading, Readings
from onceserve_operator.domain import Key, Pod
from onceserve_operator.inspection.calls import Calls, NoAnswerError

_LOG: Final = logging.getLogger(__name__)

_SLOTS, _SLOTS_EACH = 48, 16
"""Pods that are asked at once, in all and of one ModelDeployment: a third, since all of its pods may turn silent."""
_SILENT_SLOTS, _SILENT_SLOTS_EACH = 16, 4
"""The same of pods that held a slot for long when they were asked last, and did not answer."""


class Slots:
    """What the samplings of all ModelDeployments share."""

    def __init__(self) -> None:
        self.answering = asyncio.Semaphore(_SLOTS)
        self.silent = asyncio.Semaphore(_SILENT_SLOTS)


class Sampling:
    """Asks the pods of one ModelDeployment."""

    def __init__(self, key: Key, calls: Calls, slots: Slots) -> None:
        self._key = key
        self._calls = calls
        # Its own first: who waits for these holds none of the common ones.
        self._slots = asyncio.Semaphore(_SLOTS_EACH), slots.answering
        self._slots_of_silent = asyncio.Semaphore(_SILENT_SLOTS_EACH), slots.silent
        self._turn_at: dict[str, float] = {}
        """When a pod, by its uid, has answered or been silent last."""
        self._silent: set[str] = set()

    async def sample(self, pods: Sequence[tuple[Pod, str]], seconds: float) -> Readings:
        """Ask pods, each by its scheme. None for who has not told after so many seconds, waiting for a slot too."""
        self._forget_others({pod.uid for pod, _ in pods})
        # There may not be time for all: who has waited longest comes first.
        line = sorted(pods, key=lambda each: self._turn_at.get(each[0].uid, -math.inf))
        readings = await asyncio.gather(*(self._read(pod, scheme, seconds) for pod, scheme in line))
        return dict(zip((pod.uid for pod, _ in line), readings, strict=True))

    def _forget_others(self, uids: set[str]) -> None:
        self._turn_at = {uid: at for uid, at in self._turn_at.items() if uid in uids}
        self._silent &= uids

    async def _read(self, pod: Pod, scheme: str, seconds: float) -> Reading | None:
        clock, asked_at = asyncio.get_running_loop().time, math.inf
        own, common = self._slots_of_silent if pod.uid in self._silent else self._slots
        try:
            async with asyncio.timeout(seconds), own, common:
                asked_at = clock()
                answer = await self._calls.metrics(pod.address, scheme)
                self._turn_at[pod.uid] = clock()
                self._silent.discard(pod.uid)
                return load.read(answer)
        except (NoAnswerError, TimeoutError, ValueError) as error:
            _LOG.debug("%s: pod %s does not tell its load: %r", self._key, pod.name, error)
            # Who had a slot late was not given the time to answer, and keeps its place.
            if clock() - asked_at > seconds / 2:
                self._turn_at[pod.uid] = clock()
                self._silent.add(pod.uid)
            return None
