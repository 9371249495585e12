"""The one thread for work that would hold up the event loop."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from onceserve_serving.errors import ExecutionFailedError

T = TypeVar("T")


def died() -> ExecutionFailedError:
    """Return the error for a call that no thread will run any more."""
    return ExecutionFailedError("the inference thread has ended; the server must be restarted")


class InferenceThread:
    """Runs calls one after another off the event loop.

    It is a daemon, unlike an executor's: a stuck inference must not keep the process from exiting.
    """

    def __init__(self, name: str = "inference") -> None:
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._busy_since: float | None = None
        self._ended = False
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def busy_for(self) -> float:
        """Return the seconds since the running call began; 0 while none runs."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def busy(self) -> bool:
        """Whether a call runs now."""
        return self._busy_since is not None

    @property
    def alive(self) -> bool:
        """Whether the thread takes calls."""
        return not self._ended

    async def call(self, function: Callable[[], T]) -> T:
        """Run the function in the thread; a call that is cancelled before its turn never runs."""
        job: Future[T] = Future()
        self._jobs.put((job, function))
        # The thread refuses what it finds when it ends; what comes later, nobody else would.
        if self._ended:
            self._refuse_all()
        return await asyncio.wrap_future(job)

    def close(self) -> None:
        """End the thread after the calls that wait."""
        self._jobs.put(None)

    def _work(self) -> None:
        job = None
        try:
            while job := self._jobs.get():
                self._run(*job)
        finally:
            self._ended = True
            if job is not None and not job[0].done():
                job[0].set_exception(died())
            self._refuse_all()

    def _run(self, job: Future[Any], function: Callable[[], Any]) -> None:
        if not job.set_running_or_notify_cancel():
            return
        self._busy_since = time.monotonic()
        try:
            tell = _outcome(job, function)
        except BaseException:
            job.set_exception(died())
            raise
        finally:
            # Before anybody learns of the end: who asks next must not find the thread busy with what is over.
            self._busy_since = None
        tell()

    def _refuse_all(self) -> None:
        with contextlib.suppress(Empty):
            while True:
                if (job := self._jobs.get_nowait()) and job[0].set_running_or_notify_cancel():
                    job[0].set_exception(died())


def _outcome(job: Future[T], function: Callable[[], T]) -> Callable[[], None]:
    try:
        result = function()
    except BaseException as error:  # the thread outlives whatever the call raises
        return partial(job.set_exception, error)
    return partial(job.set_result, result)
