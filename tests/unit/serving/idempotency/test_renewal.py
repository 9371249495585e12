import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from onceserve_serving.idempotency.memory import MemoryStore
from onceserve_serving.idempotency.record import Fingerprint
from onceserve_serving.idempotency.renewal import Renewal
from onceserve_serving.idempotency.store import Busy, Claim, Store, StoreUnavailableError, Takeover
from onceserve_serving.idempotency.stores import open_store

RECORD, ID, OTHER = b"r" * 32, b"i" * 16, b"o" * 16
LEASE = 0.6


def claim(claim_id: bytes) -> Claim:
    return Claim(RECORD, Fingerprint(b"f" * 40), claim_id, LEASE, 60)


@asynccontextmanager
async def renewed(store: Store) -> AsyncIterator[Renewal]:
    renewal = Renewal(store, LEASE)
    renewal.start()
    yield renewal
    await asyncio.to_thread(renewal.stop, 10)


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    made = open_store("memory:" if request.param == "memory" else f"sqlite://{tmp_path}/answers.db")
    await made.open()
    yield made
    await made.close()


async def test_a_loop_that_is_held_up_loses_no_lease(store: Store) -> None:
    async with renewed(store) as renewal:
        await store.claim(claim(ID))
        with renewal.holding(RECORD, ID):
            hold_up(3 * LEASE)
            assert isinstance(await store.claim(claim(OTHER)), Busy)


async def test_without_renewal_it_would_be_lost(store: Store) -> None:
    await store.claim(claim(ID))
    hold_up(1.1 * LEASE)
    assert isinstance(await store.claim(claim(OTHER)), Takeover)


def hold_up(seconds: float) -> None:
    time.sleep(seconds)


async def test_what_is_held_no_longer_ends_with_its_lease(store: Store) -> None:
    async with renewed(store) as renewal:
        await store.claim(claim(ID))
        with renewal.holding(RECORD, ID):
            await asyncio.sleep(LEASE)
        await asyncio.sleep(1.1 * LEASE)
        assert isinstance(await store.claim(claim(OTHER)), Takeover)


class Failing(MemoryStore):
    """Fails to renew at first."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def renew(self, record: bytes, claim_id: bytes, lease: float) -> bool:
        self.asked += 1
        if self.asked == 1:
            raise StoreUnavailableError("away")
        return await super().renew(record, claim_id, lease)


async def test_one_failure_is_told_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    store = Failing()
    with caplog.at_level(logging.WARNING):
        async with renewed(store) as renewal:
            await store.claim(claim(ID))
            with renewal.holding(RECORD, ID):
                hold_up(2 * LEASE)
                assert isinstance(await store.claim(claim(OTHER)), Busy)
    assert "a lease could not be renewed: away" in caplog.text


async def test_each_request_is_held_for_itself() -> None:
    """Two with one key are two claims, and the end of one is not the end of the other."""
    renewal = Renewal(MemoryStore(), LEASE)
    with renewal.holding(RECORD, ID):
        with renewal.holding(RECORD, OTHER), renewal.holding(RECORD, OTHER):
            assert len(renewal._held) == 3
        assert [held.claim_id for held in renewal._held] == [ID]
    assert not renewal._held


class Slow(MemoryStore):
    """Answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.free = asyncio.Event(), asyncio.Event()

    async def renew(self, record: bytes, claim_id: bytes, lease: float) -> bool:
        self.asked.set()
        await self.free.wait()
        return await super().renew(record, claim_id, lease)


async def test_a_late_reply_brings_back_nothing_that_has_ended() -> None:
    store = Slow()
    renewal = Renewal(store, lease=0.0)
    await store.claim(claim(ID))
    with renewal.holding(RECORD, ID):
        renewing = asyncio.create_task(renewal._renew_due(store))
        await store.asked.wait()
    store.free.set()
    await renewing
    assert not renewal._held


async def test_stopping_leaves_no_thread(store: Store) -> None:
    async with renewed(store):
        assert "lease renewal" in {thread.name for thread in threading.enumerate()}
    assert "lease renewal" not in {thread.name for thread in threading.enumerate()}


class Hanging(MemoryStore):
    """Answers no renewal before it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.free = threading.Event(), threading.Event()

    async def renew(self, record: bytes, claim_id: bytes, lease: float) -> bool:
        self.asked.set()
        await asyncio.to_thread(self.free.wait)
        return await super().renew(record, claim_id, lease)


async def test_stopping_waits_so_long_for_a_store_that_hangs_and_no_longer() -> None:
    store = Hanging()
    renewal = Renewal(store, LEASE)
    renewal.start()
    with renewal.holding(RECORD, ID):
        await asyncio.to_thread(store.asked.wait, 10)
        began = time.monotonic()
        await asyncio.to_thread(renewal.stop, 0.05)
        assert time.monotonic() - began < 5
    store.free.set()
    await asyncio.to_thread(renewal.stop, 10)


async def test_a_lease_lasts_from_the_last_renewal_that_was_confirmed() -> None:
    store = MemoryStore()
    renewal = Renewal(store, lease=60)
    await store.claim(claim(ID))
    with (held := renewal.holding(RECORD, ID)):
        held.since -= 59
        assert renewal.lasts(held)
        held.since -= 1
        assert not renewal.lasts(held)
        await renewal._renew_due(store)
        assert renewal.lasts(held)
