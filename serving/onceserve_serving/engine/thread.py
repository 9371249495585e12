"""The one thread for work that would hold up the event loop."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class InferenceThread:
    """Runs calls one after another off the event loop.

    It is a daemon, unlike an executor's: a stuck inference must not keep the process from exiting.
    """

    def __init__(self) -> None:
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._busy_since: float | None = None
        threading.Thread(target=self._work, name="inference", daemon=True).start()

    def busy_for(self) -> float:
        """Return the seconds since the running call began; 0 while none runs."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def busy(self) -> bool:
        """Whether a call runs now."""
        return self._busy_since is not None

    async def call(self, function: Callable[[], T]) -> T:
        """Run the function in the thread; a call that is cancelled before its turn never runs."""
        job: Future[T] = Future()
        self._jobs.put((job, function))
        return await asyncio.wrap_future(job)

    def _work(self) -> None:
        while True:
            job, function = self._jobs.get()
            if job.set_running_or_notify_cancel():
                self._busy_since = time.monotonic()
                _settle(job, function)
                self._busy_since = None


def _settle(job: Future[T], function: Callable[[], T]) -> None:
    try:
        result = function()
    except BaseException as error:  # the thread outlives whatever the call raises
        job.set_exception(error)
    else:
        job.set_result(result)
