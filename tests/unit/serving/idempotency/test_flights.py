import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from onceserve_serving.errors import DeadlineExceededError, InProgressError, OverloadedError, StoreFailedError
from onceserve_serving.idempotency.confirming import GivenUpError, UnconfirmedError
from onceserve_serving.idempotency.flights import Flights
from onceserve_serving.idempotency.record import Fingerprint

RECORD = b"r" * 32
ONE, OTHER = Fingerprint(b"1" * 40), Fingerprint(b"2" * 40)
LATER = 60.0


class Runs:
    """Counts runs, each of which ends when it is let."""

    def __init__(self, *errors: Exception) -> None:
        self.free = asyncio.Event()
        self.begun = 0
        self._errors = list(errors)

    async def __call__(self) -> int:
        self.begun += 1
        number = self.begun
        await self.free.wait()
        if self._errors:
            raise self._errors.pop(0)
        return number


def ask(
    flights: Flights[int], run: Callable[[], Awaitable[int]], fingerprint: Fingerprint = ONE, seconds: float = LATER
) -> "asyncio.Task[tuple[int, bool]]":
    return asyncio.create_task(flights.join(RECORD, fingerprint, time.monotonic() + seconds, run))


async def until_idle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_many_at_once_are_one_run() -> None:
    flights, runs = Flights[int](), Runs()
    asked = [ask(flights, runs) for _ in range(200)]
    await until_idle()
    runs.free.set()
    assert sorted(await asyncio.gather(*asked)) == [(1, False)] + [(1, True)] * 199
    assert runs.begun == 1


async def test_who_comes_after_the_end_runs_anew() -> None:
    flights, runs = Flights[int](), Runs()
    runs.free.set()
    assert [await ask(flights, runs), await ask(flights, runs)] == [(1, False), (2, False)]


async def test_another_key_or_another_request_is_a_flight_of_its_own() -> None:
    """The store tells whose the key is: who came first to this server may not have come first to the store."""
    flights, runs = Flights[int](), Runs()
    asked = [ask(flights, runs), ask(flights, runs, OTHER)]
    other_key = asyncio.create_task(flights.join(b"s" * 32, ONE, time.monotonic() + LATER, runs))
    await until_idle()
    runs.free.set()
    assert await asyncio.gather(*asked, other_key) == [(1, False), (2, False), (3, False)]


@pytest.mark.parametrize("leavers", [[0], [1], [0, 1, 2]])
async def test_nobodys_leaving_ends_it(leavers: list[int]) -> None:
    flights, runs = Flights[int](), Runs()
    asked = [ask(flights, runs) for _ in range(3)]
    await until_idle()
    for leaver in leavers:
        asked[leaver].cancel()
    await until_idle()
    again = ask(flights, runs)
    await until_idle()
    runs.free.set()
    assert await again == (1, True)
    assert [one.cancelled() for one in asked] == [number in leavers for number in range(3)]


async def test_an_error_is_everybodys() -> None:
    flights, runs = Flights[int](), Runs(OverloadedError("full", 1.0))
    asked = [ask(flights, runs) for _ in range(3)]
    await until_idle()
    runs.free.set()
    errors = await asyncio.gather(*asked, return_exceptions=True)
    assert [str(error) for error in errors] == ["full"] * 3
    assert await ask(flights, runs) == (2, False)


async def test_an_error_that_nobody_waits_for_is_not_the_loop_s(caplog: pytest.LogCaptureFixture) -> None:
    flights, runs = Flights[int](), Runs(ValueError())
    asked = ask(flights, runs)
    await until_idle()
    asked.cancel()
    runs.free.set()
    await flights.landed()
    assert not caplog.records


async def test_who_cannot_wait_as_long_is_told_to_come_again() -> None:
    flights, runs = Flights[int](), Runs()
    first = ask(flights, runs)
    await until_idle()
    with pytest.raises(InProgressError) as told:
        await ask(flights, runs, seconds=0.01)
    assert told.value.retry_after == 1.0
    with pytest.raises(InProgressError):
        await ask(flights, runs, seconds=-1)
    runs.free.set()
    assert await first == (1, False)


async def test_whose_time_was_too_short_says_nothing_of_those_who_have_more() -> None:
    flights, runs = Flights[int](), Runs(DeadlineExceededError("late"))
    short = ask(flights, runs)
    await until_idle()
    others = [ask(flights, runs) for _ in range(3)]
    await until_idle()
    runs.free.set()
    with pytest.raises(DeadlineExceededError):
        await short
    assert await asyncio.gather(*others) == [(2, False), (2, True), (2, True)]


async def test_landed_is_when_nothing_is_on_its_way() -> None:
    flights, runs = Flights[int](), Runs()
    await flights.landed()
    asked = [ask(flights, runs), ask(flights, runs, OTHER)]
    await until_idle()
    asked[0].cancel()
    landing = asyncio.create_task(flights.landed())
    await until_idle()
    assert not landing.done()
    runs.free.set()
    await landing
    assert await asked[1] == (2, False)


class Unconfirmed:
    """A run whose answer, or whose end without one, comes later than those who asked wait for it."""

    def __init__(self) -> None:
        self.failure = StoreFailedError("the store fails", 1.0)
        self.later = asyncio.get_running_loop().create_future()

    async def __call__(self) -> int:
        async def confirm() -> int:
            answer: int = await self.later
            return answer

        raise UnconfirmedError(self.failure, asyncio.get_running_loop().create_task(confirm()))


async def unconfirmed(flights: Flights[int]) -> Unconfirmed:
    run = Unconfirmed()
    errors = await asyncio.gather(*(ask(flights, run) for _ in range(3)), return_exceptions=True)
    assert [error is run.failure for error in errors] == [True] * 3
    return run


async def test_who_asks_again_joins_what_waits_for_the_store() -> None:
    flights = Flights[int]()
    run = await unconfirmed(flights)
    again = [ask(flights, Runs()) for _ in range(3)]
    with pytest.raises(InProgressError):
        await ask(flights, Runs(), seconds=0.01)
    run.later.set_result(7)
    assert await asyncio.gather(*again) == [(7, True)] * 3


async def test_what_is_given_up_says_nothing_to_those_who_joined_it() -> None:
    flights, runs = Flights[int](), Runs()
    run = await unconfirmed(flights)
    again = [ask(flights, runs) for _ in range(3)]
    await until_idle()
    run.later.set_exception(GivenUpError("its lease has ended"))
    runs.free.set()
    assert sorted(await asyncio.gather(*again)) == [(1, False), (1, True), (1, True)]


async def test_landed_is_not_before_the_store_has_the_answer() -> None:
    flights = Flights[int]()
    run = await unconfirmed(flights)
    landing = asyncio.create_task(flights.landed())
    await until_idle()
    assert not landing.done()
    run.later.set_result(7)
    await landing
