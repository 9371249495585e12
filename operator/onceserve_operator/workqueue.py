"""Passes in order: one at a time for each resource, several resources at once, failures retried ever more slowly.

What has changed goes before what is only looked at again: after a failover, and at each resync, that is everything.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

from onceserve_operator.domain import Key
from onceserve_operator.errors import ApiUnavailableError

_LOG = logging.getLogger(__name__)

_SETTLING = 0.05
"""Seconds to let further events of the same change arrive before a pass."""
_FIRST_DELAY, _LAST_DELAY = 0.5, 60.0
"""Seconds before a failed pass is tried again, at first and at most."""
_AHEAD = 8
"""Turns that go to changes in a row at most while others wait too: what changes all the time must not starve these."""


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
        self._turns = _Turns(concurrency)
        self._wanted: dict[Key, asyncio.Event] = {}
        self._changed: set[Key] = set()
        self._workers: dict[Key, asyncio.Task[None]] = {}
        self._stopped = False

    def add(self, key: Key, *, changed: bool = True) -> None:
        """Ask for a pass; after `stop` nothing comes of it. What has not changed waits for what has."""
        if self._stopped:
            return
        if changed:
            self._changed.add(key)
            self._turns.hasten(key)
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
                if await self._tried(key, wanted):
                    delays = backoff()
                else:
                    # A change ends the wait: it may be what mends the failure.
                    await _wait(wanted, next(delays))
                    wanted.set()
        finally:
            del self._workers[key], self._wanted[key]

    async def _tried(self, key: Key, wanted: asyncio.Event) -> bool:
        async with self._turns.turn(key, first=key in self._changed):
            # Most passes await nothing: a thousand in a row would hold up all else, the lease too.
            await asyncio.sleep(0)
            wanted.clear()
            changed = key in self._changed
            self._changed.discard(key)
            try:
                self._schedule(key, await self._process(key))
            except ApiUnavailableError as error:
                _LOG.warning("%s: the pass will be tried again: %s", key, error)
            except Exception:  # the queue must outlive whatever one resource meets; it is logged and tried again
                _LOG.exception("%s: the pass failed and will be tried again", key)
            else:
                return True
        if changed:
            self._changed.add(key)
        return False

    def _schedule(self, key: Key, delay: float | None) -> None:
        if earlier := self._later.pop(key, None):
            earlier.cancel()
        if delay is not None:
            self._later[key] = asyncio.get_running_loop().call_later(delay, self._due, key)

    def _due(self, key: Key) -> None:
        del self._later[key]
        self.add(key)


class _Turns:
    """So many at once; of those who wait the first go before the others."""

    def __init__(self, number: int) -> None:
        self._free = number
        self._first: dict[Key, asyncio.Future[None]] = {}
        self._others: dict[Key, asyncio.Future[None]] = {}
        self._ahead = 0
        """Turns that went to the first since the last that went to another."""

    @asynccontextmanager
    async def turn(self, key: Key, *, first: bool) -> AsyncIterator[None]:
        """Have one of the turns for the duration of a block."""
        await self._take(key, self._first if first else self._others)
        try:
            yield
        finally:
            self._give()

    def hasten(self, key: Key) -> None:
        """Let who waits among the others, if it does, be one of the first."""
        if waiting := self._others.pop(key, None):
            self._first[key] = waiting

    async def _take(self, key: Key, line: dict[Key, asyncio.Future[None]]) -> None:
        if self._free:
            self._free -= 1
            return
        given = line[key] = asyncio.get_running_loop().create_future()
        try:
            await given
        except asyncio.CancelledError:
            if given.cancelled():
                self._first.pop(key, None)
                self._others.pop(key, None)
            else:
                self._give()
            raise

    def _give(self) -> None:
        """Hand a turn on."""
        while line := self._next():
            given = line.pop(next(iter(line)))
            # Who was cancelled leaves the line only later.
            if not given.done():
                self._ahead = self._ahead + 1 if line is self._first else 0
                given.set_result(None)
                return
        self._free += 1

    def _next(self) -> dict[Key, asyncio.Future[None]]:
        if self._others and self._ahead >= _AHEAD:
            return self._others
        return self._first or self._others


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
