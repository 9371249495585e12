"""Clients that leave while their requests wait."""

import asyncio
from types import TracebackType
from typing import Any, Final

from starlette.types import Receive

PATIENCE: Final = 0.05
"""Seconds between two looks at who waits. What is answered sooner is never watched and costs next to nothing."""


class Waiting:
    """A request that waits, for the time of a `with`; its task is cancelled if its client leaves meanwhile."""

    __slots__ = ("_departures", "_receive", "_task", "_watcher", "gone", "seen")

    def __init__(self, departures: "Departures", receive: Receive) -> None:
        self._departures = departures
        self._receive = receive
        self._task: asyncio.Task[Any] | None = asyncio.current_task()
        self._watcher: asyncio.Task[None] | None = None
        self.seen = False
        self.gone = False

    def __enter__(self) -> "Waiting":
        self._departures.add(self)
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        self._departures.discard(self)
        if self._watcher is not None:
            self._watcher.cancel()
        if self.gone and self._task is not None:
            self._task.uncancel()

    def watch(self) -> None:
        """Begin to watch the client."""
        self._watcher = self._watcher or asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        if self._task is not None:
            self._task.cancel()


class Departures:
    """Looks now and then at who waits, and watches the clients of those who have been waiting at the look before."""

    def __init__(self) -> None:
        self._waiting: set[Waiting] = set()
        self._looking = False

    def waiting(self, receive: Receive) -> Waiting:
        """Return the present task as one that waits."""
        return Waiting(self, receive)

    def add(self, waiting: Waiting) -> None:
        """Look at a request from now on."""
        self._waiting.add(waiting)
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_later(PATIENCE, self._look)

    def discard(self, waiting: Waiting) -> None:
        """Look at a request no more."""
        self._waiting.discard(waiting)

    def _look(self) -> None:
        for waiting in self._waiting:
            if waiting.seen:
                waiting.watch()
            waiting.seen = True
        self._looking = bool(self._waiting)
        if self._looking:
            asyncio.get_running_loop().call_later(PATIENCE, self._look)
