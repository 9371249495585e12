"""Passes in order: one at a time for each resource, several resources at once, failures retried ever more slowly."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator

from onceserve_operator.domain import Key
from onceserve_operator.errors import ApiUnavailableError

_LOG = logging.getLogger(__name__)

_SETTLING = 0.05
"""Seconds to let further events of the same change arrive before a pass."""
_FIRST_DELAY, _LAST_DELAY = 0.5, 60.0
"""Seconds before a failed pass is tried again, at first and at most."""


def backoff() -> Iterator[float]:
    """Yield the delays before each further try, in seconds."""
    delay = _FIRST_DELAY
    while True:
        yield delay
        delay = min(2 * delay, _LAST_DELAY)


class WorkQueue:
    """Keys that want a pass. Adding a key again while it waits changes nothing; while it runs, it runs once more."""

    def __init__(self, process: Callable[[Key], Awaitable[float | None]], *, concurrency: int) -> None:
        """`process` may return after how many seconds it wants another pass, whatever happens meanwhile."""
        self._process = process
        self._later: dict[Key, asyncio.TimerHandle] = {}
        self._slots = asyncio.Semaphore(concurrency)
        self._wanted: dict[Key, asyncio.Event] = {}
        self._workers: dict[Key, asyncio.Task[None]] = {}
        self._stopped = False

    def add(self, key: Key) -> None:
        """Ask for a pass; after `stop` nothing comes of it."""
        if self._stopped:
            return
        self._wanted.setdefault(key, asyncio.Event()).set()
        if key not in self._workers:
            self._workers[key] = asyncio.create_task(self._work(key), name=f"reconcile {key}")

    async def stop(self) -> None:
        """End all work at the next await."""
        self._stopped = True
        for timer in self._later.values():
            timer.cancel()
        workers = list(self._workers.values())
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, key: Key) -> None:
        delays = backoff()
        wanted = self._wanted[key]
        try:
            while wanted.is_set():
                await asyncio.sleep(_SETTLING)
                wanted.clear()
                if await self._tried(key):
                    delays = backoff()
                else:
                    # A change ends the wait: it may be what mends the failure.
                    await _wait(wanted, next(delays))
                    wanted.set()
        finally:
            del self._workers[key], self._wanted[key]

    async def _tried(self, key: Key) -> bool:
        async with self._slots:
            # Most passes await nothing: a thousand in a row would hold up all else, the lease too.
            await asyncio.sleep(0)
            try:
                self._schedule(key, await self._process(key))
            except ApiUnavailableError as error:
                _LOG.warning("%s: the pass will be tried again: %s", key, error)
                return False
            except Exception:  # the queue must outlive whatever one resource meets; it is logged and tried again
                _LOG.exception("%s: the pass failed and will be tried again", key)
                return False
        return True

    def _schedule(self, key: Key, delay: float | None) -> None:
        if earlier := self._later.pop(key, None):
            earlier.cancel()
        if delay is not None:
            self._later[key] = asyncio.get_running_loop().call_later(delay, self._due, key)

    def _due(self, key: Key) -> None:
        del self._later[key]
        self.add(key)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
