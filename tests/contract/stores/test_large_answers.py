"""As many answers as go together, each as large as any that is kept, to a store that has its usual time for them."""

import asyncio
import os
from collections.abc import Sequence

from contract.stores.places import Place, again, claim, completion
from onceserve_serving.idempotency.grouping import LIMIT
from onceserve_serving.idempotency.guard import KEPT_BYTES
from onceserve_serving.idempotency.record import Outcome
from onceserve_serving.idempotency.store import Claim, Committed, Completed, Done, Store, StoreUnavailableError
from onceserve_serving.idempotency.stores import open_store

TIMEOUT = 2.0
ROUNDS = 20
LARGE = Outcome(200, (), os.urandom(KEPT_BYTES))
"""Which cannot be compressed."""


async def completed(store: Store, claims: Sequence[Claim]) -> Sequence[Completed | BaseException]:
    return await asyncio.gather(*(store.complete(completion(one, LARGE)) for one in claims), return_exceptions=True)


async def test_a_crowd_of_large_answers_is_taken_bit_by_bit(place: Place) -> None:
    store = open_store(f"{place.url}?timeout={TIMEOUT}") if place.url else place.make()
    await store.open()
    claims = [claim() for _ in range(LIMIT)]
    for one in claims:
        await store.claim(one)
    left = claims
    for _ in range(ROUNDS):
        told = await completed(store, left)
        # None is in doubt: what was sent was so little that it was answered in time.
        assert {type(one) for one in told} <= {Committed, StoreUnavailableError}
        before, left = left, [one for one, answer in zip(left, told, strict=True) if answer != Committed()]
        assert len(left) < len(before)
        if not left:
            break
    assert not left
    assert await store.claim(again(claims[-1])) == Done(LARGE)
    await store.close()
