"""The stores under test. A new one is one more `Place` in PLACES."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from onceserve_serving.idempotency.memory import MemoryStore
from onceserve_serving.idempotency.record import Fingerprint, Outcome
from onceserve_serving.idempotency.store import Claim, Completion, Store
from onceserve_serving.idempotency.stores import open_store
from support.databases import PgBouncer, Postgresql, Redis

FINGERPRINT = Fingerprint(b"key-0001" + bytes(32))
OTHER_REQUEST = Fingerprint(b"key-0001" + bytes(31) + b"x")
ANSWER = Outcome(200, ((b"content-type", b"application/json"), (b"set-cookie", b"")), b'{"outputs": []}\x00\xff')
ANOTHER = Outcome(500, (), b"x" * 5000)


@dataclass(frozen=True, slots=True)
class Place:
    """Where records are, and how to get there once more."""

    name: str
    make: Callable[[], Store]
    url: str = ""
    break_answer: Callable[[bytes], None] | None = None


@contextmanager
def memory(_directory: Path) -> Iterator[Place]:
    store = MemoryStore()
    yield Place("memory", lambda: store)


@contextmanager
def sqlite(directory: Path) -> Iterator[Place]:
    yield _by_url("sqlite", f"sqlite://{directory}/store.db")


@contextmanager
def redis(_directory: Path) -> Iterator[Place]:
    with Redis() as server:
        yield _by_url("redis", server.url)


@contextmanager
def postgresql(_directory: Path) -> Iterator[Place]:
    with Postgresql() as server:
        yield _by_url("postgresql", server.url)


@contextmanager
def pgbouncer(_directory: Path) -> Iterator[Place]:
    with Postgresql() as server, PgBouncer(server) as pooler:
        yield _by_url("pgbouncer", pooler.url)


PLACES: list[Callable[[Path], AbstractContextManager[Place]]] = [memory, sqlite, redis, postgresql, pgbouncer]
SHARED = PLACES[1:]
"""Those that other processes see."""


def _by_url(name: str, url: str) -> Place:
    return Place(name, lambda: open_store(f"{url}?timeout=20"), url)


def ident() -> bytes:
    """Return a claim id."""
    return uuid.uuid4().bytes


def claim(**changes: object) -> Claim:
    """Return a claim of a record that nobody has claimed, but for what is given."""
    whole = Claim(uuid.uuid4().bytes * 2, FINGERPRINT, ident(), lease=100, retention=1000)
    return whole._replace(**changes)  # type: ignore[arg-type]


def again(first: Claim, **changes: object) -> Claim:
    """Return the claim of another request with the same key."""
    return claim(record=first.record, **changes)


def completion(of: Claim, answer: Outcome = ANSWER, retention: float = 1000) -> Completion:
    """Return the completion of who made a claim."""
    return Completion(of.record, of.claim_id, answer, retention)
