"""Asks pods in the background and keeps what they told: a pass looks here and never waits."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from onceserve_contract import verification
from onceserve_operator.backoff import backoff
from onceserve_operator.domain import Key, Measured, Pod, Seen, Verdict
from onceserve_operator.inspection import golden
from onceserve_operator.inspection.calls import Calls, NoAnswerError
from onceserve_operator.inspection.measuring import Measuring
from onceserve_operator.inspection.wanted import Wanted

_LOG: Final = logging.getLogger(__name__)

_FIRST_DELAY, _LAST_DELAY = 0.5, 10.0
"""Seconds before a pod that did not answer is asked again, at first and at most."""

_TURNS: Final = 4
"""Pods of one ModelDeployment that are verified at once."""


class Inspector:
    """What the pods of all ModelDeployments told. `on_news` is told whose, when a pass should look again.

    At most `concurrency` pods are verified at once, of one ModelDeployment four, and as many are measured: neither
    waits for the other. Metrics are sampled every `sampling` seconds, a Prometheus is asked every `querying` seconds.
    Used within the event loop alone.
    """

    def __init__(
        self,
        secret: bytes,
        on_news: Callable[[Key], None],
        *,
        calls: Calls | None = None,
        concurrency: int = 16,
        sampling: float = 5,
        querying: float = 10,
    ) -> None:
        self._means = _Means(
            secret=secret,
            on_news=on_news,
            calls=calls or Calls(),
            verifying=asyncio.Semaphore(concurrency),
            judging=asyncio.Lock(),
            measuring=asyncio.Semaphore(concurrency),
            sampling=sampling,
            querying=querying,
        )
        self._inspections: dict[Key, _Inspection] = {}

    def seen(self, key: Key) -> Seen:
        """Return what is known now of what is wanted."""
        inspection = self._inspections.get(key)
        return inspection.seen() if inspection else Seen()

    def want(self, key: Key, wanted: Wanted | None) -> None:
        """Say what is wanted now, None for nothing; what is wanted no longer is forgotten."""
        if wanted is not None:
            inspection = self._inspections.get(key)
            if inspection is None:
                inspection = self._inspections[key] = _Inspection(key, self._means)
            inspection.want(wanted)
        elif inspection := self._inspections.pop(key, None):
            inspection.end()

    async def stop(self) -> None:
        """End all calls, and return when they have ended."""
        for key in list(self._inspections):
            self.want(key, None)
        await asyncio.gather(*self._means.tasks, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class _Means:
    """What all inspections share."""

    secret: bytes
    on_news: Callable[[Key], None]
    calls: Calls
    verifying: asyncio.Semaphore
    judging: asyncio.Lock
    """Held by the one answer that is unpacked: that takes far more memory than the answer."""
    measuring: asyncio.Semaphore
    sampling: float
    querying: float
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    """Those that have not ended, cancelled ones too."""

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task


@dataclass(frozen=True, slots=True)
class _Question:
    """What a pod is asked, and where: while it is the same, the pod need not be asked anew."""

    digest: str
    scheme: str
    address: str


class _Inspection:
    """What is asked and known of one ModelDeployment's pods."""

    def __init__(self, key: Key, means: _Means) -> None:
        self._key = key
        self._means = means
        self._wanted: Wanted | None = None
        self._digest = ""
        # Pods that are silent take all their time, and those of others must not wait for them.
        self._turns = asyncio.Semaphore(_TURNS)
        self._verdicts: dict[str, Verdict] = {}
        self._unanswered: dict[str, str] = {}
        self._asking: dict[str, tuple[_Question, asyncio.Task[None]]] = {}
        self._measured: Measured | None = None
        self._measuring: tuple[Measuring, asyncio.Task[None]] | None = None

    def seen(self) -> Seen:
        return Seen(dict(self._verdicts), dict(self._unanswered), self._measured)

    def want(self, wanted: Wanted) -> None:
        if wanted == self._wanted:
            return
        self._wanted = wanted
        self._want_verdicts(wanted)
        self._want_measurements(wanted)

    def end(self) -> None:
        for uid in list(self._asking):
            self._stop_asking(uid)
        self._stop_measuring()

    def _want_verdicts(self, wanted: Wanted) -> None:
        digest, pods = wanted.question, {pod.uid: pod for pod in wanted.pods}
        if digest != self._digest:
            self._digest = digest
            self._verdicts.clear()
            self._unanswered.clear()
        for known in (self._verdicts, self._unanswered):
            for uid in known.keys() - pods.keys():
                del known[uid]
        for uid in self._asking.keys() - pods.keys():
            self._stop_asking(uid)
        for pod in wanted.pods:
            if pod.uid not in self._verdicts:
                self._ask(pod, wanted, _Question(digest, wanted.scheme, pod.address))

    def _ask(self, pod: Pod, wanted: Wanted, question: _Question) -> None:
        asked, _ = self._asking.get(pod.uid, (None, None))
        if asked == question:
            return
        if asked is not None:
            self._stop_asking(pod.uid)
        # Until it has an address the kubelet is at work, and the pod comes again with one.
        if pod.address:
            task = self._means.start(self._verify(pod, wanted), f"verify {self._key} {pod.name}")
            self._asking[pod.uid] = question, task

    def _stop_asking(self, uid: str) -> None:
        _, task = self._asking.pop(uid)
        task.cancel()

    async def _verify(self, pod: Pod, wanted: Wanted) -> None:
        """Ask a pod until it has answered."""
        delays = backoff(_FIRST_DELAY, _LAST_DELAY)
        while True:
            try:
                verdict = await self._asked(pod, wanted)
            except NoAnswerError as error:
                self._record_silence(pod, str(error))
            except Exception as error:  # the pod must be asked again, whatever this is; it is logged
                _LOG.exception("%s: verifying pod %s failed and will be tried again", self._key, pod.name)
                self._record_silence(pod, f"{type(error).__name__}, see the operator's log")
            else:
                self._record_verdict(pod, verdict)
                return
            await asyncio.sleep(next(delays))

    async def _asked(self, pod: Pod, wanted: Wanted) -> Verdict:
        requests = wanted.verification.requests
        token = verification.token(self._means.secret, self._key.namespace, wanted.revision)
        async with self._turns, self._means.verifying:
            answer = await self._means.calls.verify(pod.address, wanted.scheme, token, requests)
            async with self._means.judging:
                # Comparing megabytes of numbers would hold up everything else.
                return await asyncio.to_thread(golden.judge, answer, requests, wanted.sha256)

    def _record_verdict(self, pod: Pod, verdict: Verdict) -> None:
        _LOG.info("%s: pod %s: %s", self._key, pod.name, verdict.problem.message if verdict.problem else "verified")
        del self._asking[pod.uid]
        self._unanswered.pop(pod.uid, None)
        self._verdicts[pod.uid] = verdict
        self._means.on_news(self._key)

    def _record_silence(self, pod: Pod, words: str) -> None:
        if self._unanswered.get(pod.uid) != words:
            self._unanswered[pod.uid] = words
            self._means.on_news(self._key)

    def _want_measurements(self, wanted: Wanted) -> None:
        if self._measuring is not None:
            measuring, _ = self._measuring
            if wanted.measured_between == measuring.wanted.measured_between:
                measuring.wanted = wanted
                return
            self._stop_measuring()
        if wanted.measured_between is not None:
            means = self._means
            measuring = Measuring(
                self._key,
                wanted,
                means.calls,
                means.measuring,
                self._record_measured,
                sampling=means.sampling,
                querying=means.querying,
            )
            self._measuring = measuring, means.start(measuring.run(), f"measure {self._key}")

    def _stop_measuring(self) -> None:
        if self._measuring is not None:
            _, task = self._measuring
            task.cancel()
        self._measuring = self._measured = None

    def _record_measured(self, measured: Measured) -> None:
        if measured != self._measured:
            self._measured = measured
            self._means.on_news(self._key)
