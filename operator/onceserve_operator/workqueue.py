"""Passes in order: one at a time for each resource, several resources at once, failures retried ever more slowly.

What has changed goes before what is only looked at again: after a failover, and at each resync, that is everything.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from onceserve_operator.backoff import backoff
from onceserve_operator.domain import Key
from onceserve_operator.errors import ApiUnavailableError

_LOG = logging.getLogger(__name__)

_SETTLING = 0.05
"""Seconds to let further events of the same change arrive before a pass."""
_AHEAD = 8
"""Turns that go to changes in a row at most while others wait too: what changes all the time must not starve these."""


@dataclass(slots=True)
class _Request:
    """What is asked for of one resource."""

    wanted: bool = False
    first: bool = False
    """Before those that are only looked at again."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class WorkQueue:
    """Keys that want a pass. Adding a key again while it waits changes nothing; while it runs, it runs once more."""

    def __init__(self, process: Callable[[Key], Awaitable[float | None]], *, concurrency: int) -> None:
        """`process` may return after how many seconds it wants another pass, whatever happens meanwhile."""
        self._process = process
        self._later: dict[Key, asyncio.TimerHandle] = {}
        self._turns = _Turns(concurrency)
        self._requests: dict[Key, _Request] = {}
        self._workers: dict[Key, asyncio.Task[None]] = {}
        self._stopped = False

    def add(self, key: Key, *, changed: bool = True, urgent: bool = False) -> None:
        """Ask for a pass; after `stop` nothing comes of it.

        What has not changed waits for what has, unless it is urgent, and does not hasten the next try of what failed.
        """
        if self._stopped:
            return
        request = self._requests.setdefault(key, _Request())
        request.wanted = True
        if changed:
            request.changed.set()
        if changed or urgent:
            request.first = True
            self._turns.hasten(key)
        if key not in self._workers:
            self._workers[key] = asyncio.create_task(self._work(key, request), name=f"reconcile {key}")

    async def stop(self) -> None:
        """End all work at the next await."""
        self._stopped = True
        for timer in self._later.values():
            timer.cancel()
        workers = list(self._workers.values())
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, key: Key, request: _Request) -> None:
        delays = backoff()
        try:
            while request.wanted:
                await asyncio.sleep(_SETTLING)
                if await self._tried(key, request):
                    delays = backoff()
                else:
                    # A change ends the wait: it may be what mends the failure.
                    await _wait(request.changed, next(delays))
                    request.wanted = True
        finally:
            del self._workers[key], self._requests[key]

    async def _tried(self, key: Key, request: _Request) -> bool:
        async with self._turns.turn(key, first=request.first):
            # Most passes await nothing: a thousand in a row would hold up all else, the lease too.
            await asyncio.sleep(0)
            first = request.first
            request.wanted = request.first = False
            request.changed.clear()
            try:
                self._schedule(key, await self._process(key))
            except ApiUnavailableError as error:
                _LOG.warning("%s: the pass will be tried again: %s", key, error)
            except Exception:  # the queue must outlive whatever one resource meets; it is logged and tried again
                _LOG.exception("%s: the pass failed and will be tried again", key)
            else:
                return True
        request.first |= first
        return False

    def _schedule(self, key: Key, delay: float | None) -> None:
        if earlier := self._later.pop(key, None):
            earlier.cancel()
        if delay is not None:
            self._later[key] = asyncio.get_running_loop().call_later(delay, self._due, key)

    def _due(self, key: Key) -> None:
        del self._later[key]
        self.add(key)


# An ordinary dict goes over all who have left to find who is next.
_Line: TypeAlias = OrderedDict[Key, asyncio.Future[None]]


class _Turns:
    """So many at once; of those who wait the first go before the others."""

    def __init__(self, number: int) -> None:
        self._free = number
        self._first: _Line = OrderedDict()
        self._others: _Line = OrderedDict()
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

    async def _take(self, key: Key, line: _Line) -> None:
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
            _, given = line.popitem(last=False)
            # Who was cancelled leaves the line only later.
            if not given.done():
                self._ahead = self._ahead + 1 if line is self._first else 0
                given.set_result(None)
                return
        self._free += 1

    def _next(self) -> _Line:
        if self._others and self._ahead >= _AHEAD:
            return self._others
        return self._first or self._others


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
