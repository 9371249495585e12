"""Calls that go to a store together: what waits when the store is free. No timer holds a call back."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from onceserve_serving.idempotency.store import StoreUnavailableError

Item = TypeVar("Item")

LIMIT: Final = 256
LIMIT_BYTES: Final = 8 * 2**20
"""Calls in one group at most, and the bytes that they carry if it is more than one: a store that is given more at once
than it takes within its timeout would take none."""


class Waiter(Generic[Item]):
    """A call that waits, about one key and of so many bytes, and the future that its caller awaits."""

    def __init__(self, key: bytes, item: Item, size: int, arrived: float, answer: "asyncio.Future[Any]") -> None:
        self.key = key
        self.item = item
        self.size = size
        self.arrived = arrived
        self.answer = answer


class Groups(Generic[Item]):
    """Takes calls to the store, one group after another; a group has each key once."""

    def __init__(self, run: Callable[[Sequence[Item]], Awaitable[Sequence[Any]]], patience: float) -> None:
        """`run` answers each item, with an exception where it failed; nothing waits longer than `patience` for it."""
        self._run = run
        self._patience = patience
        self._waiting: list[Waiter[Item]] = []
        self._task: asyncio.Task[None] | None = None

    async def ask(self, key: bytes, item: Item, size: int = 0) -> Any:  # noqa: ANN401  each kind of item has its own kind of answer
        """Return what the store answers; raises StoreUnavailableError if its turn did not come in time.

        `size` is the bytes of what may be large in the item.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._waiting.append(Waiter(key, item, size, loop.time(), answer))
        if self._task is None:
            self._task = loop.create_task(self._work(loop))
        return await answer

    async def close(self) -> None:
        """Refuse what waits, and let the group that runs end."""
        refused, self._waiting = self._waiting, []
        _refuse(refused, "the server is stopping")
        if self._task is not None:
            await self._task

    async def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while group := self._take(loop.time()):
            try:
                answers = await self._run([waiter.item for waiter in group])
            except Exception as error:
                answers = [error] * len(group)
            for waiter, answer in zip(group, answers, strict=True):
                _tell(waiter, answer)
            # Who was answered may ask again at once, and goes with those who wait.
            await asyncio.sleep(0)
        self._task = None

    def _take(self, now: float) -> list[Waiter[Item]]:
        group: dict[bytes, Waiter[Item]] = {}
        room = LIMIT_BYTES
        later, late = [], []
        for waiter in self._waiting:
            if waiter.answer.done():
                continue
            if now - waiter.arrived > self._patience:
                late.append(waiter)
            elif waiter.key in group or len(group) == LIMIT or (group and waiter.size > room):
                later.append(waiter)
            else:
                group[waiter.key] = waiter
                room -= waiter.size
        self._waiting = later
        _refuse(late, f"its turn did not come within {self._patience:g} s")
        return list(group.values())


def _tell(waiter: Waiter[Item], answer: object) -> None:
    if waiter.answer.done():
        return
    if isinstance(answer, Exception):
        waiter.answer.set_exception(answer)
    else:
        waiter.answer.set_result(answer)


def _refuse(waiters: Sequence[Waiter[Item]], why: str) -> None:
    for waiter in waiters:
        _tell(waiter, StoreUnavailableError(f"the store was not asked: {why}"))
