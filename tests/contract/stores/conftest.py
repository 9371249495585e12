from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
import pytest_asyncio

from contract.stores.places import PLACES, Place
from onceserve_serving.idempotency.store import Store
from support.databases import Postgresql

Open = Callable[[], Awaitable[Store]]


@pytest.fixture(scope="session", params=PLACES, ids=lambda place: place.__name__)
def any_place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Each store, for the whole run: tests use keys of their own."""
    with request.param(tmp_path_factory.mktemp("store")) as place:
        yield place


@pytest.fixture(scope="session")
def cluster() -> Iterator[Postgresql]:
    """A PostgreSQL of which each module takes a database of its own."""
    with Postgresql() as server:
        yield server


@pytest.fixture
def place(any_place: Place) -> Place:
    return any_place


@pytest_asyncio.fixture
async def open_again(place: Place) -> AsyncIterator[Open]:
    """Opens the store, each time over connections of its own."""
    opened: list[Store] = []

    async def open_again() -> Store:
        store = place.make()
        opened.append(store)
        await store.open()
        return store

    yield open_again
    for store in opened:
        await store.close()


@pytest_asyncio.fixture
async def store(open_again: Open) -> Store:
    return await open_again()
