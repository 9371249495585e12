"""What every store promises, on every store."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from contract.stores.conftest import Open
from contract.stores.places import ANOTHER, ANSWER, FINGERPRINT, OTHER_REQUEST, again, claim, completion, ident
from onceserve_serving.idempotency.record import Fingerprint, Outcome, Tombstone, UnreadableRecordError
from onceserve_serving.idempotency.store import (
    Busy,
    Claim,
    Committed,
    Done,
    Lost,
    LostDone,
    Mismatch,
    New,
    Owned,
    Poisoned,
    Snapshot,
    State,
    Store,
    Takeover,
)

OVER = 0.001
"""Seconds that are over by the time that `time_passes` returns."""


async def time_passes() -> None:
    await asyncio.sleep(0.01)


async def test_a_claim_is_granted_once(store: Store) -> None:
    first = claim()
    assert isinstance(await store.claim(first), New)
    busy = await store.claim(again(first))
    assert isinstance(busy, Busy)
    assert 0 < busy.remaining <= 100


async def test_a_claim_that_is_repeated_is_owned_and_not_counted(store: Store) -> None:
    first = claim()
    new = await store.claim(first)
    assert isinstance(new, New)
    assert await store.claim(first) == Owned(new.fence, 1)
    assert await store.claim(first) == Owned(new.fence, 1)


async def test_a_claim_that_is_repeated_after_its_lease_is_owned_still(store: Store) -> None:
    first = claim(lease=OVER)
    new = await store.claim(first)
    assert isinstance(new, New)
    await time_passes()
    assert await store.claim(first) == Owned(new.fence, 1)


@pytest.mark.parametrize("answer", [ANSWER, ANOTHER, Outcome(204, (), b""), Tombstone(200, bytes(32), 1 << 40)])
async def test_an_answer_is_kept_as_it_is(store: Store, answer: Any) -> None:
    first = claim()
    await store.claim(first)
    assert await store.complete(completion(first, answer)) == Committed()
    assert await store.claim(again(first)) == Done(answer)
    assert await store.claim(first) == Done(answer)


async def test_a_completion_that_is_repeated_changes_nothing(store: Store) -> None:
    first = claim()
    await store.claim(first)
    assert await store.complete(completion(first)) == Committed()
    assert await store.complete(completion(first, ANOTHER)) == Committed()
    assert await store.claim(again(first)) == Done(ANSWER)


async def test_what_was_never_claimed_cannot_be_completed(store: Store) -> None:
    assert await store.complete(completion(claim())) == Lost()


async def test_only_who_holds_a_claim_completes(store: Store) -> None:
    first = claim()
    await store.claim(first)
    assert await store.complete(completion(again(first), ANOTHER)) == Lost()
    assert await store.complete(completion(first)) == Committed()
    assert await store.complete(completion(again(first), ANOTHER)) == LostDone(ANSWER)


async def test_when_a_lease_is_over_another_takes_it(store: Store) -> None:
    first, second = (late := claim(lease=OVER)), again(late)
    new = await store.claim(first)
    await time_passes()
    taken = await store.claim(second)
    assert isinstance(new, New)
    assert isinstance(taken, Takeover)
    assert (taken.attempt, taken.fence > new.fence) == (2, True)
    assert await store.complete(completion(first)) == Lost()
    assert await store.complete(completion(second, ANOTHER)) == Committed()
    assert await store.complete(completion(first)) == LostDone(ANOTHER)


async def test_a_lease_that_is_over_and_that_nobody_took_still_completes(store: Store) -> None:
    first = claim(lease=OVER)
    await store.claim(first)
    await time_passes()
    assert await store.complete(completion(first)) == Committed()


async def test_a_renewed_lease_lasts(store: Store) -> None:
    first = claim(lease=OVER)
    await store.claim(first)
    assert await store.renew(first.record, first.claim_id, 100)
    await time_passes()
    assert isinstance(await store.claim(again(first)), Busy)


async def test_a_lease_outlasts_a_retention_that_is_shorter(store: Store) -> None:
    first = claim(lease=0.05, retention=0.2)
    await store.claim(first)
    assert await store.renew(first.record, first.claim_id, 100)
    await asyncio.sleep(0.3)
    assert isinstance(await store.claim(again(first)), Busy)


async def test_only_who_holds_a_claim_renews(store: Store) -> None:
    first = claim()
    assert not await store.renew(first.record, first.claim_id, 100)
    await store.claim(first)
    assert not await store.renew(first.record, ident(), 100)
    assert await store.renew(first.record, first.claim_id, 100)
    await store.complete(completion(first))
    assert not await store.renew(first.record, first.claim_id, 100)


async def test_what_is_released_is_there_for_the_next_and_does_not_count(store: Store) -> None:
    first = claim()
    new = await store.claim(first)
    assert await store.release(first.record, first.claim_id)
    taken = await store.claim(again(first))
    assert isinstance(new, New)
    assert isinstance(taken, Takeover)
    assert (taken.attempt, taken.fence > new.fence) == (1, True)


async def test_releasing_again_and_again_never_poisons(store: Store) -> None:
    first = claim()
    for _ in range(5):
        turn = again(first)
        assert isinstance(await store.claim(turn), New | Takeover)
        assert await store.release(turn.record, turn.claim_id)


async def test_only_who_holds_a_claim_releases(store: Store) -> None:
    first = claim()
    assert not await store.release(first.record, first.claim_id)
    await store.claim(first)
    assert not await store.release(first.record, ident())
    assert isinstance(await store.claim(again(first)), Busy)
    assert await store.release(first.record, first.claim_id)
    assert not await store.release(first.record, first.claim_id)
    assert await store.complete(completion(first)) == Lost()


async def test_an_answer_is_never_released(store: Store) -> None:
    first = claim()
    await store.claim(first)
    await store.complete(completion(first))
    assert not await store.release(first.record, first.claim_id)
    assert await store.claim(again(first)) == Done(ANSWER)


@pytest.mark.parametrize("state", ["running", "over", "released", "completed"])
async def test_another_request_is_refused_before_all_else(store: Store, state: str) -> None:
    first = claim(lease=OVER if state == "over" else 100)
    await store.claim(first)
    if state == "released":
        await store.release(first.record, first.claim_id)
    if state == "completed":
        await store.complete(completion(first))
    await time_passes()
    assert await store.claim(again(first, fingerprint=OTHER_REQUEST)) == Mismatch()
    assert await store.claim(first._replace(fingerprint=OTHER_REQUEST)) == Mismatch()
    assert not isinstance(await store.claim(again(first)), Mismatch)


async def test_keys_of_fingerprints_can_be_rotated(store: Store) -> None:
    old, new = FINGERPRINT.current, b"key-0002" + bytes(32)
    both = Fingerprint(new, old)
    for before, after in ((Fingerprint(old), both), (both, Fingerprint(new)), (both, Fingerprint(old))):
        first = claim(fingerprint=before)
        await store.claim(first)
        assert isinstance(await store.claim(again(first, fingerprint=after)), Busy)
        other = after._replace(current=after.current[:-1] + b"x", other=after.other and after.other[:-1] + b"x")
        assert await store.claim(again(first, fingerprint=other)) == Mismatch()


@pytest.mark.parametrize("finished", [False, True])
async def test_a_fingerprint_by_an_unknown_key_is_no_mismatch(store: Store, *, finished: bool) -> None:
    first = claim(fingerprint=Fingerprint(b"key-0003" + bytes(32)))
    await store.claim(first)
    if finished:
        await store.complete(completion(first))
    with pytest.raises(UnreadableRecordError, match="a secret that this server does not have"):
        await store.claim(again(first))


async def test_what_ends_its_runner_each_time_is_not_run_without_end(store: Store) -> None:
    first = claim(lease=OVER)
    attempts = []
    for _ in range(4):
        turn = again(first, lease=OVER)
        attempts.append(await store.claim(turn))
        await time_passes()
    assert [type(attempt) for attempt in attempts] == [New, Takeover, Takeover, Poisoned]
    assert isinstance(await store.claim(turn), Poisoned)
    await time_passes()
    last = again(first)
    assert isinstance(await store.claim(last), Poisoned)
    assert isinstance(await store.claim(again(first)), Busy)
    assert await store.complete(completion(last, ANOTHER)) == Committed()
    assert await store.complete(completion(turn)) == LostDone(ANOTHER)
    assert await store.claim(again(first)) == Done(ANOTHER)


@pytest.mark.parametrize("completed", [False, True])
async def test_what_is_past_its_retention_is_gone(store: Store, *, completed: bool) -> None:
    first = claim(retention=OVER if not completed else 1000)
    new = await store.claim(first)
    if completed:
        assert await store.complete(completion(first, retention=OVER)) == Committed()
    await time_passes()
    assert await store.read(first.record) is None
    assert await store.complete(completion(first)) == Lost()
    assert not await store.renew(first.record, first.claim_id, 100)
    assert not await store.release(first.record, first.claim_id)
    anew = await store.claim(again(first, fingerprint=OTHER_REQUEST))
    assert isinstance(new, New)
    assert isinstance(anew, New)
    assert anew.fence > new.fence


async def test_who_held_a_record_that_was_made_anew_holds_nothing(store: Store) -> None:
    first = claim(retention=OVER)
    await store.claim(first)
    await time_passes()
    second = again(first)
    assert isinstance(await store.claim(second), New)
    assert await store.complete(completion(first)) == Lost()
    assert not await store.renew(first.record, first.claim_id, 100)
    assert not await store.release(first.record, first.claim_id)
    assert await store.complete(completion(second, ANOTHER)) == Committed()


async def test_a_record_can_be_read(store: Store) -> None:
    first = claim()
    assert await store.read(first.record) is None
    new = await store.claim(first)
    assert isinstance(new, New)
    running = await store.read(first.record)
    assert running is not None
    assert 0 < running.remaining <= 100
    assert replace(running, remaining=0) == Snapshot(
        first.fingerprint, State.RUNNING, first.claim_id, new.fence, 1, 0, None
    )
    await store.complete(completion(first))
    assert await store.read(first.record) == Snapshot(
        first.fingerprint, State.COMPLETED, first.claim_id, new.fence, 1, 0, ANSWER
    )
    second = claim()
    await store.claim(second)
    await store.release(second.record, second.claim_id)
    released = await store.read(second.record)
    assert released is not None
    assert (released.state, released.attempt, released.remaining) == (State.RELEASED, 0, 0)


async def test_the_sweep_deletes_what_is_past_its_retention_alone(store: Store) -> None:
    ended = [claim(retention=OVER) for _ in range(20)]
    kept = [claim() for _ in range(20)]
    done = [claim() for _ in range(20)]
    await asyncio.gather(*(store.claim(each) for each in (*ended, *kept, *done)))
    await asyncio.gather(*(store.complete(completion(each)) for each in done))
    await time_passes()
    await store.sweep()
    assert await store.sweep() == 0
    assert {type(await store.claim(again(each))) for each in kept} == {Busy}
    assert {type(await store.claim(again(each))) for each in done} == {Done}
    assert {type(await store.claim(again(each))) for each in ended} == {New}


async def test_calls_for_one_key_at_once_are_taken_one_after_another(store: Store) -> None:
    first = claim()
    granted = await asyncio.gather(*(store.claim(first) for _ in range(10)))
    assert [type(one) for one in granted] == [New, *[Owned] * 9]
    completed = await asyncio.gather(*(store.complete(completion(first)) for _ in range(10)))
    assert completed == [Committed()] * 10


async def test_a_record_that_cannot_be_judged_harms_no_other_of_its_group(store: Store) -> None:
    strange, normal = claim(fingerprint=Fingerprint(b"key-0004" + bytes(32))), claim()
    await store.claim(strange)
    outcomes = await asyncio.gather(store.claim(again(strange)), store.claim(normal), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [UnreadableRecordError, New]


async def test_a_caller_that_leaves_harms_no_other(store: Store) -> None:
    claims = [claim() for _ in range(20)]
    tasks = [asyncio.create_task(store.claim(each)) for each in claims]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    granted = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in granted[1::2]] == [New] * 10


async def test_twins_see_the_same_records(store: Store) -> None:
    twin = store.twin()
    await twin.open()
    first = claim()
    await store.claim(first)
    assert await twin.renew(first.record, first.claim_id, 100)
    assert isinstance(await twin.claim(again(first)), Busy)
    await twin.close()


async def test_64_racing_claims_have_one_winner(open_again: Open) -> None:
    stores = [await open_again() for _ in range(4)]
    first = claim()
    granted = await asyncio.gather(*(stores[n % 4].claim(again(first)) for n in range(64)))
    assert sorted(type(one).__name__ for one in granted) == ["Busy"] * 63 + ["New"]


async def test_32_racing_takeovers_have_one_winner(open_again: Open) -> None:
    stores = [await open_again() for _ in range(4)]
    first = claim(lease=OVER)
    await stores[0].claim(first)
    await time_passes()
    granted = await asyncio.gather(*(stores[n % 4].claim(again(first)) for n in range(32)))
    assert sorted(type(one).__name__ for one in granted) == ["Busy"] * 31 + ["Takeover"]


async def test_racing_completions_store_one_answer(open_again: Open) -> None:
    stores = [await open_again() for _ in range(4)]
    owners = [(late := claim(lease=OVER))]
    await stores[0].claim(late)
    for _ in range(2):
        await time_passes()
        owners.append(again(late, lease=OVER))
        await stores[0].claim(owners[-1])
    calls = [stores[n % 4].complete(completion(owners[n % 3], Outcome(200, (), b"%d" % (n % 3)))) for n in range(48)]
    completed = await asyncio.gather(*calls)
    stored = Outcome(200, (), b"2")
    assert completed.count(Committed()) == 16
    assert {one for one in completed if one != Committed()} <= {Lost(), LostDone(stored)}
    assert await stores[1].claim(again(late)) == Done(stored)


async def test_groups_that_overlap_in_any_order_do_not_wait_for_each_other(open_again: Open) -> None:
    stores = [await open_again() for _ in range(4)]
    keys = [claim() for _ in range(40)]

    async def all_of(store: Store, order: list[Claim]) -> list[object]:
        mine = [again(each) for each in order]
        granted = await asyncio.gather(*(store.claim(each) for each in mine))
        won = [each for each, grant in zip(mine, granted, strict=True) if isinstance(grant, New)]
        return list(await asyncio.gather(*(store.complete(completion(each)) for each in won)))

    orders = [keys, keys[::-1], keys[20:] + keys[:20], keys[::3] + keys[1::3] + keys[2::3]]
    completed = await asyncio.gather(*(all_of(store, order) for store, order in zip(stores, orders, strict=True)))
    assert sum(map(len, completed)) == 40
    assert {outcome for outcomes in completed for outcome in outcomes} == {Committed()}
