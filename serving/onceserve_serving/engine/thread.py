"""The one thread for work that would hold up the event loop."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from onceserve_serving.errors import ExecutionFailedError

T = TypeVar("T")


class Job(NamedTuple):
    """A call, and who awaits its result where."""

    function: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    result: "asyncio.Future[Any]"

    def tell(self, value: object = None, error: BaseException | None = None) -> None:
        """Have the event loop learn of the result; nobody waits for it where that has ended."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(_settle, self.result, value, error)


def _settle(result: "asyncio.Future[Any]", value: object, error: BaseException | None) -> None:
    if result.done():
        return
    if error is None:
        result.set_result(value)
    else:
        result.set_exception(error)


def died() -> ExecutionFailedError:
    """Return the error for a call that no thread will run any more."""
    return ExecutionFailedError("the inference thread has ended; the server must be restarted")


class InferenceThread:
    """Runs calls one after another off the event loop.

    It is a daemon, unlike an executor's: a stuck inference must not keep the process from exiting.
    """

    def __init__(self, name: str = "inference") -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
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
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()
        self._jobs.put(Job(function, loop, result))
        # The thread refuses what it finds when it ends; what comes later, nobody else would.
        if self._ended:
            self._refuse_all()
        return await result

    def close(self) -> None:
        """End the thread after the calls that wait."""
        self._jobs.put(None)

    def _work(self) -> None:
        job = None
        try:
            while job := self._jobs.get():
                if not job.result.cancelled():
                    self._run(job)
        finally:
            self._ended = True
            if job is not None:
                job.tell(error=died())
            self._refuse_all()

    def _run(self, job: Job) -> None:
        self._busy_since = time.monotonic()
        try:
            value, error = _outcome(job.function)
        finally:
            # Before anybody learns of the end: who asks next must not find the thread busy with what is over.
            self._busy_since = None
        job.tell(value, error)

    def _refuse_all(self) -> None:
        with contextlib.suppress(Empty):
            while True:
                if job := self._jobs.get_nowait():
                    job.tell(error=died())


def _outcome(function: Callable[[], T]) -> tuple[T | None, BaseException | None]:
    try:
        return function(), None
    except BaseException as error:  # the thread outlives whatever the call raises
        return None, error
