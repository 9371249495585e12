"""An inspector, and what it has told."""

import asyncio
from collections.abc import Callable

from onceserve_operator.domain import Key, Seen
from onceserve_operator.inspection.calls import Calls
from onceserve_operator.inspection.inspector import Inspector

KEY = Key("shop", "risk")
SECRET = b"secret"


class Inspected:
    """An inspector that is asked only when it has told of news, as the operator does."""

    def __init__(self, calls: Calls, *, concurrency: int = 8, sampling: float = 0.02, querying: float = 0.02) -> None:
        self.news: list[Key] = []
        self._told = asyncio.Event()
        self.inspector = Inspector(
            SECRET, self._tell, calls=calls, concurrency=concurrency, sampling=sampling, querying=querying
        )
        self.want = self.inspector.want

    def seen(self, key: Key = KEY) -> Seen:
        return self.inspector.seen(key)

    async def until(self, look: Callable[[Seen], object], key: Key = KEY, seconds: float = 5) -> Seen:
        """Return what is seen once it is as `look` says."""
        async with asyncio.timeout(seconds):
            while not look(self.seen(key)):
                self._told.clear()
                await self._told.wait()
        return self.seen(key)

    def _tell(self, key: Key) -> None:
        self.news.append(key)
        self._told.set()
