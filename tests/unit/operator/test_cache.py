import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest

from onceserve_operator.domain import Key, Manifest
from onceserve_operator.kube import kinds
from onceserve_operator.kube.cache import Cache
from onceserve_operator.resources import labels

KEY = Key("default", "risk")


def service(version: int, *, uid: str = "u", owner: str | None = "risk", name: str = "risk") -> Manifest:
    metadata: Manifest = {"namespace": "default", "name": name, "uid": uid, "resourceVersion": str(version)}
    if owner:
        metadata["labels"] = {labels.MODEL_DEPLOYMENT: owner}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {**metadata, "managedFields": ["long"]}}


def version(cache: Cache) -> str | None:
    known = cache.get(kinds.SERVICE, "default", "risk")
    return known["metadata"]["resourceVersion"] if known else None


def test_an_older_version_never_replaces_a_newer_one() -> None:
    cache = Cache()
    for each in (9, 10, 2):
        cache.put(service(each))
    assert version(cache) == "10"


def test_what_is_not_needed_is_not_kept() -> None:
    cache = Cache()
    cache.put(service(1))
    assert "managedFields" not in cache.owned(kinds.SERVICE, KEY)[0]["metadata"]


def test_a_late_deletion_does_not_hide_the_namesake_made_after_it() -> None:
    cache = Cache()
    cache.put(service(5, uid="second"))
    cache.drop(service(4, uid="first"))
    assert version(cache) == "5"
    cache.drop(service(6, uid="second"))
    assert version(cache) is None


async def test_a_listing_forgets_what_is_gone_and_keeps_what_is_newer() -> None:
    cache = Cache()
    cache.put(service(5, name="gone"))
    cache.put(service(12, name="newer"))
    cache.put(service(11))
    await cache.replace(kinds.SERVICE, [service(7)], version=10)
    assert cache.get(kinds.SERVICE, "default", "gone") is None
    assert cache.get(kinds.SERVICE, "default", "newer") is not None
    assert version(cache) == "11"


def test_an_object_that_loses_its_label_belongs_to_nobody() -> None:
    cache = Cache()
    cache.put(service(1))
    assert len(cache.owned(kinds.SERVICE, KEY)) == 1
    cache.put(service(2, owner=None))
    assert cache.owned(kinds.SERVICE, KEY) == []


def test_forgetting_leaves_no_trace() -> None:
    cache = Cache()
    cache.put(service(1))
    cache.drop(service(1))
    assert not cache._by_owner


async def test_a_listing_that_was_on_its_way_does_not_bring_back_what_was_deleted_meanwhile() -> None:
    cache = Cache()
    cache.put(service(5))
    cache.drop(service(11))
    await cache.replace(kinds.SERVICE, [service(5)], version=10)
    assert version(cache) is None
    cache.put(service(7))
    assert version(cache) is None


async def test_deletions_are_forgotten_when_no_answer_can_be_older() -> None:
    cache = Cache()
    cache.drop(service(11))
    for number in range(2):
        assert cache._deleted[kinds.SERVICE], number
        await cache.replace(kinds.SERVICE, [], version=20 + number)
    await cache.replace(kinds.SERVICE, [], version=30)
    assert not cache._deleted[kinds.SERVICE]


async def test_a_kind_that_is_withdrawn_takes_its_objects_with_it_until_a_listing_finds_it() -> None:
    cache = Cache()
    assert cache.serves(kinds.SERVICE)
    cache.put(service(5))
    cache.withdraw(kinds.SERVICE)
    assert (cache.serves(kinds.SERVICE), cache.owned(kinds.SERVICE, KEY), version(cache)) == (False, [], None)
    await cache.replace(kinds.SERVICE, [service(6)], version=6)
    assert (cache.serves(kinds.SERVICE), version(cache)) == (True, "6")


def test_what_many_objects_have_alike_is_kept_once() -> None:
    cache = Cache()
    for number in range(2):
        # As two answers have it: nothing of the one is in the other.
        cache.put(json.loads(json.dumps(service(1, name=f"risk-{number}"))))
    first, second = (cache.get(kinds.SERVICE, "default", f"risk-{number}") for number in range(2))
    assert first is not None
    assert second is not None
    assert first["metadata"]["namespace"] is second["metadata"]["namespace"]
    assert [*map(id, first["metadata"])] == [*map(id, second["metadata"])]


def nested(levels: int) -> Any:
    """Return data as the one field of a ModelDeployment has it whose form the API server does not know."""
    data: Any = 1
    for _ in range(levels):
        data = [{"inner": data}]
    return data


@pytest.mark.parametrize("levels", [10, 5_000])
def test_what_somebody_has_nested_deeply_is_kept_as_it_is(levels: int) -> None:
    cache = Cache()
    cache.put({**service(1), "spec": nested(levels)})
    kept, depth = cache.owned(kinds.SERVICE, KEY)[0]["spec"], 0
    while isinstance(kept, list):
        kept, depth = kept[0]["inner"], depth + 1
    assert (kept, depth) == (1, levels)


async def test_a_large_listing_holds_up_nobody() -> None:
    """Between any two pieces others have their turn, such as who renews the lease."""
    cache, seen = Cache(), set[int]()

    async def look_on() -> None:
        while True:
            seen.add(len(cache.owned(kinds.SERVICE, KEY)))
            await asyncio.sleep(0)

    onlooker = asyncio.create_task(look_on())
    await cache.replace(kinds.SERVICE, [service(1, name=f"risk-{number}") for number in range(1_000)], version=1)
    onlooker.cancel()
    counts = sorted({0, *seen, 1_000})
    assert max(after - before for before, after in pairwise(counts)) <= 100


async def test_what_changes_while_a_listing_is_taken_outlives_it() -> None:
    cache = Cache()
    taken = asyncio.create_task(
        cache.replace(kinds.SERVICE, [service(5, uid=name, name=name) for name in ("gone", "risk")], version=10)
    )
    await asyncio.sleep(0)
    cache.drop(service(11, uid="gone", name="gone"))
    cache.put(service(12, uid="risk"))
    await taken
    assert cache.get(kinds.SERVICE, "default", "gone") is None
    assert version(cache) == "12"
