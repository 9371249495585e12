from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from contract.idempotency.fleet import Fleet
from contract.serving.conftest import serve
from contract.serving.zygote import Zygote
from contract.stores.places import Place, postgresql, redis, sqlite
from support.databases import DatabaseServer, Postgresql, Redis

__all__ = ["serve"]

TIMEOUT = 0.5
"""Seconds within which a store that tests pause or kill answers, or is taken for dead."""

STORES: list[Callable[[Path], AbstractContextManager[Place]]] = [sqlite, redis, postgresql]


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """Starts servers by fork."""
    one = Zygote()
    yield one
    one.stop()


@pytest.fixture(scope="session", params=STORES, ids=lambda store: store.__name__)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of each store, for the whole run: tests use keys of their own."""
    with request.param(tmp_path_factory.mktemp("store")) as place:
        yield place.url


@pytest.fixture
def file_store(tmp_path: Path) -> str:
    """The URL of a store in a file of the test's own."""
    return f"sqlite://{tmp_path}/store.db"


@pytest.fixture
def fleet(zygote: Zygote, tmp_path: Path, store: str) -> Iterator[Fleet]:
    """Servers at each store, started by the test."""
    with Fleet(zygote, tmp_path, store) as servers:
        yield servers


@pytest.fixture
def file_fleet(zygote: Zygote, tmp_path: Path, file_store: str) -> Iterator[Fleet]:
    """Servers at a store in a file, started by the test."""
    with Fleet(zygote, tmp_path, file_store) as servers:
        yield servers


@pytest.fixture(scope="module")
def pair(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory, store: str) -> Iterator[Fleet]:
    """Two servers at each store, for the module."""
    with Fleet(zygote, tmp_path_factory.mktemp("pair"), store) as servers:
        for _ in range(2):
            servers.start("--grpc-port", "0")
        yield servers


@pytest.fixture(scope="module", params=[Redis, Postgresql])
def module_database(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    with request.param() as server:
        yield server


@pytest.fixture
def database(module_database: DatabaseServer) -> Iterator[DatabaseServer]:
    """A store that is there when the test begins, and again when it ends."""
    yield module_database
    if module_database.process.poll() is None:
        module_database.resume()
    else:
        module_database.start()


@pytest.fixture
def servers(zygote: Zygote, tmp_path: Path, database: DatabaseServer) -> Iterator[Fleet]:
    with Fleet(zygote, tmp_path, f"{database.url}?timeout={TIMEOUT}") as fleet:
        yield fleet
