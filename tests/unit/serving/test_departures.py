import asyncio
from typing import Any

import pytest

from onceserve_serving.api import departures
from onceserve_serving.api.departures import Departures


class Client:
    """What `receive` gives of a client."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.watched = asyncio.Event()

    async def receive(self) -> Any:
        self.watched.set()
        await self.left.wait()
        return {"type": "http.disconnect"}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(departures, "PATIENCE", 0.001)


async def wait_for_ever(watch: Departures, client: Client) -> bool:
    """Wait, and tell whether it ended because the client left."""
    with watch.waiting(client.receive) as waiting:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            return waiting.gone
    raise AssertionError


async def test_who_leaves_is_waited_for_no_more() -> None:
    client = Client()
    asked = asyncio.create_task(wait_for_ever(Departures(), client))
    await client.watched.wait()
    client.left.set()
    assert await asked
    assert asked.cancelling() == 0


async def test_a_cancellation_of_another_is_no_departure() -> None:
    client = Client()
    asked = asyncio.create_task(wait_for_ever(Departures(), client))
    await client.watched.wait()
    asked.cancel()
    assert not await asked


async def test_a_departure_concerns_its_own_request_alone() -> None:
    watch, leaver, stayer = Departures(), Client(), Client()
    left = asyncio.create_task(wait_for_ever(watch, leaver))
    stays = asyncio.create_task(wait_for_ever(watch, stayer))
    await leaver.watched.wait()
    await stayer.watched.wait()
    leaver.left.set()
    assert await left
    assert not stays.done()
    stays.cancel()
    assert not await stays


async def test_what_is_answered_soon_is_never_watched() -> None:
    watch, client = Departures(), Client()
    for _ in range(3):
        with watch.waiting(client.receive):
            await asyncio.sleep(0)
    assert not client.watched.is_set()


async def test_looking_ends_when_nobody_waits() -> None:
    watch, client = Departures(), Client()
    with watch.waiting(client.receive):
        await client.watched.wait()
    watch._look()
    assert not watch._waiting
    assert not watch._looking
