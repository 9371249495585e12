"""Several processes, one store."""

import asyncio

import pytest

from contract.stores.places import SHARED, Place, claim
from contract.stores.racer import race
from onceserve_serving.idempotency.store import Store

PROCESSES = 3
KEYS = 100


@pytest.mark.parametrize("any_place", SHARED, indirect=True)
async def test_each_key_is_granted_to_one_process(store: Store, place: Place) -> None:
    unclaimed, left = ([claim(lease=0.001) for _ in range(KEYS)] for _ in range(2))
    await asyncio.gather(*(store.claim(each) for each in left))
    told = await asyncio.to_thread(race, place.url, [each.record for each in (*unclaimed, *left)], PROCESSES)
    assert (told.pop("New"), told.pop("Takeover")) == (KEYS, KEYS)
    assert told.pop("Committed") == 2 * KEYS
    assert set(told) <= {"Busy", "Done"}
    assert told.total() == (PROCESSES - 1) * 2 * KEYS
