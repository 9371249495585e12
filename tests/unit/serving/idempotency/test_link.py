import asyncio

import pytest

from onceserve_serving.errors import InvalidSettingsError
from onceserve_serving.idempotency.link import Link
from onceserve_serving.idempotency.store import StoreUnavailableError, UnknownOutcomeError


class Fragile(Link[int]):
    """Connections by number; `errors` are raised by connecting, in turn."""

    def __init__(self, *errors: Exception | None, timeout: float = 5) -> None:
        super().__init__("the store", timeout)
        self.errors = list(errors)
        self.made = 0
        self.dropped: list[int] = []
        self.dead: set[int] = set()

    async def connect(self) -> int:
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error
        self.made += 1
        return self.made

    async def is_alive(self, connection: int) -> bool:
        return connection not in self.dead

    async def drop(self, connection: int) -> None:
        self.dropped.append(connection)


async def number(connection: int) -> int:
    return connection


async def breaks(_connection: int) -> int:
    raise ConnectionResetError("reset")


async def hangs(_connection: int) -> int:
    return await asyncio.Event().wait()


async def test_one_connection_is_made_when_it_is_needed_and_kept() -> None:
    link = Fragile()
    assert (link.made, await link.use(number), await link.use(number)) == (0, 1, 1)
    await link.close()
    assert link.dropped == [1]


async def test_one_that_died_unused_is_replaced_before_anything_is_sent() -> None:
    link = Fragile()
    await link.use(number)
    link.dead = {1}
    assert await link.use(number) == 2
    assert link.dropped == [1]


async def test_what_breaks_is_done_once_more_over_another() -> None:
    link = Fragile()

    async def perform(connection: int) -> int:
        return await (breaks(connection) if connection == 1 else number(connection))

    assert await link.use(perform) == 2
    assert link.dropped == [1]


async def test_what_breaks_twice_is_of_unknown_outcome() -> None:
    link = Fragile()
    with pytest.raises(UnknownOutcomeError, match="the store: reset; whether it was written is not known"):
        await link.use(breaks)
    assert link.dropped == [1, 2]
    assert await link.use(number) == 3


async def test_what_breaks_where_nobody_is_any_more_is_of_unknown_outcome() -> None:
    link = Fragile(None, ConnectionRefusedError("refused"))
    with pytest.raises(UnknownOutcomeError, match="refused"):
        await link.use(breaks)


async def test_what_breaks_and_is_then_refused_is_of_unknown_outcome() -> None:
    link = Fragile()

    async def perform(connection: int) -> int:
        if connection == 1:
            await breaks(connection)
        raise StoreUnavailableError("read-only; nothing was written")

    with pytest.raises(UnknownOutcomeError, match="read-only"):
        await link.use(perform)


async def test_who_cannot_connect_has_written_nothing() -> None:
    link = Fragile(ConnectionRefusedError("refused"))
    with pytest.raises(StoreUnavailableError, match="the store: refused; nothing was written"):
        await link.use(number)
    assert await link.use(number) == 1


async def test_no_answer_in_time_is_of_unknown_outcome_and_the_connection_is_not_used_again() -> None:
    link = Fragile(timeout=0.01)
    with pytest.raises(UnknownOutcomeError, match=r"no answer within 0.01 s"):
        await link.use(hangs)
    assert link.dropped == [1]
    link.timeout = 5
    assert await link.use(number) == 2


async def test_a_store_not_to_rely_on_is_refused_at_the_start_and_unavailable_later() -> None:
    link = Fragile(InvalidSettingsError("it forgets"), InvalidSettingsError("it forgets"))
    with pytest.raises(InvalidSettingsError, match="it forgets"):
        await link.open()
    with pytest.raises(StoreUnavailableError, match="it forgets; nothing was written"):
        await link.use(number)
    await link.open()
