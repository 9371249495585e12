"""Measures pods and asks a Prometheus, again and again, for as long as traffic shifts."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from onceserve_operator.domain import Key, Measured, Pod
from onceserve_operator.inspection import measurement, queries
from onceserve_operator.inspection.calls import Calls, NoAnswerError
from onceserve_operator.inspection.measurement import Sample, Tally
from onceserve_operator.inspection.wanted import Shift, Wanted, variables

_LOG: Final = logging.getLogger(__name__)

Tallies = dict[str, Tally]
"""By the pod's uid. Those of pods that are gone stay: their requests were answered by the revision all the same."""


class Measuring:
    """What is measured in one shift of traffic from one revision to another. Periods are in seconds."""

    def __init__(
        self,
        key: Key,
        wanted: Wanted,
        calls: Calls,
        slots: asyncio.Semaphore,
        publish: Callable[[Measured], None],
        *,
        sampling: float,
        querying: float,
    ) -> None:
        self.wanted = wanted
        """What is wanted now; its revisions stay the same."""
        self._key = key
        self._calls = calls
        self._slots = slots
        self._publish = publish
        self._sampling = sampling
        self._querying = querying
        self._target: Tallies = {}
        self._stable: Tallies = {}
        self._results: dict[str, float | str] = {}
        self._silent = ""

    async def run(self) -> None:
        """Measure until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._repeat(self._sample_and_publish, self._sampling))
            group.create_task(self._repeat(self._query, self._querying))

    def judge(self) -> Measured:
        """Return what the last samples and results say."""
        verification = self.wanted.verification
        target, stable = (
            measurement.total(one.total for one in each.values()) for each in (self._target, self._stable)
        )
        asked = verification.prometheus.queries if verification.prometheus else []
        return measurement.combine(
            (
                measurement.judge(verification.metrics, target, stable),
                queries.judge(asked, self._results),
                Measured(self._silent),
            )
        )

    async def _repeat(self, work: Callable[[], Awaitable[None]], period: float) -> None:
        while True:
            try:
                await work()
            except Exception:  # one that failed must not end the measuring of a shift; it is logged and tried again
                _LOG.exception("%s: measuring failed and will be tried again", self._key)
            # After the work, not from its beginning: results are never told more often than this.
            await asyncio.sleep(period)

    async def _sample_and_publish(self) -> None:
        shift = self.wanted.shift
        if shift is not None and self.wanted.verification.metrics:
            await self._sample(shift)
        self._publish(self.judge())

    async def _sample(self, shift: Shift) -> None:
        targets, stables = _reachable(shift.target), _reachable(shift.stable)
        taken = await asyncio.gather(
            *(self._sampled(pod, self.wanted.scheme) for pod in targets),
            *(self._sampled(pod, shift.stable_scheme) for pod in stables),
        )
        samples = dict(zip((pod.uid for pod in (*targets, *stables)), taken, strict=True))
        for pod in targets:
            if isinstance(sample := samples[pod.uid], Sample):
                # From zero: it began with the pod.
                self._target[pod.uid] = self._target.get(pod.uid, Tally()).advance(sample)
        for pod in stables:
            if isinstance(sample := samples[pod.uid], Sample):
                # Only from now: what was before this shift is not compared.
                self._stable[pod.uid] = self._stable.get(pod.uid, Tally(last=sample)).advance(sample)
        self._silent = _silence(taken)

    async def _sampled(self, pod: Pod, scheme: str) -> Sample | str:
        async with self._slots:
            try:
                return await self._calls.sample(pod.address, scheme)
            except NoAnswerError as error:
                return f"{pod.name}: {error}"

    async def _query(self) -> None:
        prometheus = self.wanted.verification.prometheus
        if prometheus is None:
            return
        filled_in = variables(self._key, self.wanted)
        for query in prometheus.queries:
            self._results[query.query] = await self._queried(prometheus.url, queries.fill(query.query, filled_in))

    async def _queried(self, url: str, query: str) -> float | str:
        async with self._slots:
            try:
                return await self._calls.query(url, query)
            except NoAnswerError as error:
                return f"Prometheus: {error}"


def _reachable(pods: Iterable[Pod]) -> list[Pod]:
    return [pod for pod in pods if pod.address]


def _silence(taken: Iterable[Sample | str]) -> str:
    """Name the pods that told nothing; empty where all did."""
    every = list(taken)
    silent = [words for words in every if isinstance(words, str)]
    return f"{len(silent)} of {len(every)} pods told no metrics ({silent[0]})" if silent else ""
