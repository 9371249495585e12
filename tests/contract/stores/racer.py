"""One of several processes that claim the same keys at the same moment."""

import asyncio
import multiprocessing
from collections import Counter
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier

from contract.stores.places import claim, completion
from onceserve_serving.idempotency.store import New, Takeover
from onceserve_serving.idempotency.stores import open_store

SECONDS = 60


def race(url: str, keys: list[bytes], processes: int) -> Counter[str]:
    """Return how often all processes together were told what."""
    context = multiprocessing.get_context("spawn")
    ready, told = context.Barrier(processes), context.Queue()
    racers = [context.Process(target=_race, args=(url, keys, ready, told)) for _ in range(processes)]
    for racer in racers:
        racer.start()
    total = sum((told.get(timeout=SECONDS) for _ in racers), Counter[str]())
    for racer in racers:
        racer.join(SECONDS)
    return total


def _race(url: str, keys: list[bytes], ready: Barrier, told: "Queue[Counter[str]]") -> None:
    told.put(asyncio.run(_claim_and_complete(url, keys, ready)))


async def _claim_and_complete(url: str, keys: list[bytes], ready: Barrier) -> Counter[str]:
    store = open_store(f"{url}?timeout=20")
    await store.open()
    await asyncio.to_thread(ready.wait, SECONDS)
    mine = [claim(record=key) for key in keys]
    granted = await asyncio.gather(*(store.claim(each) for each in mine))
    won = [each for each, grant in zip(mine, granted, strict=True) if isinstance(grant, New | Takeover)]
    completed = await asyncio.gather(*(store.complete(completion(each)) for each in won))
    await store.close()
    return Counter(type(one).__name__ for one in (*granted, *completed))
