"""An event loop whose time passes at once when nobody has anything to do."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

R = TypeVar("R")


class StuckError(Exception):
    """Nothing will ever happen any more."""


class Loop(asyncio.BaseEventLoop):
    """Has timers and tasks, and neither files nor sockets; also stands in for the module `time`."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[str] = []
        self._passed = 0.0
        self._selector = self
        self.set_exception_handler(lambda _, context: self.failures.append(repr(context)))

    def time(self) -> float:
        return self._passed

    monotonic = perf_counter = time

    def select(self, timeout: float | None) -> Sequence[object]:
        if timeout is None:
            raise StuckError
        self._passed += timeout
        return ()

    def _process_events(self, events: object) -> None: ...


def run(main: Coroutine[Any, Any, R], loop: Loop) -> R:
    """Run to the end, and leave nothing behind."""
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(_end())
        loop.close()


async def _end() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
