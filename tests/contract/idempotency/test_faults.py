"""Exactly once under faults, with real processes and real stores: `make soak-once` looks longer."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from contract.idempotency import faults
from contract.idempotency.faults import Fault, World, ledger_of, report, strike, through
from contract.idempotency.fleet import Fleet
from contract.serving.zygote import Zygote
from support.databases import DatabaseServer, Postgresql, Redis
from support.history import by_key
from support.proxy import Proxy
from support.waiting import eventually

SECONDS = float(os.environ.get("FAULT_SECONDS", "1.5"))
"""Seconds of each fault."""

SEED = int(os.environ.get("FAULT_SEED", "1"))

TIMEOUT = "?timeout=0.5"
AT_ONCE = ("--repl-diskless-sync-delay", "0")
"""Redis waits some seconds for further replicas before it feeds the first."""

ANYWHERE = (faults.rollout, faults.kill, faults.stand_still, faults.callers_leave)
ON_NETWORKS = (*ANYWHERE, faults.store_dies, faults.store_hangs, faults.replies_vanish, faults.connections_break)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as one:
        yield one


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Postgresql]:
    with Postgresql() as server:
        yield server


async def strike_through_proxy(
    stack: AsyncExitStack, zygote: Zygote, home: Path, fault: Fault, *, server: DatabaseServer, url: str
) -> World:
    """Return a world after a fault, in which a proxy is between servers and store."""
    proxy = await stack.enter_async_context(Proxy(server.port))
    fleet = stack.enter_context(Fleet(zygote, home, through(proxy, url) + TIMEOUT))
    world = World(fleet, SEED, server, proxy)
    await strike(world, fault, SECONDS)
    return world


def check(store: str, world: World, fault: Fault, ledger: dict[str, list[int]] | None = None) -> None:
    found = report(world, fault, ledger)
    print(f"\n{store} | {found}")
    assert not found.broken, found.words
    assert found.keys >= faults.CALLERS


pytestmark = pytest.mark.timeout(2 * SECONDS + 120)


@pytest.mark.parametrize("fault", ANYWHERE, ids=lambda fault: fault.__name__)
async def test_each_key_has_one_answer_with_sqlite(
    stack: AsyncExitStack, zygote: Zygote, tmp_path: Path, fault: Fault
) -> None:
    world = World(stack.enter_context(Fleet(zygote, tmp_path, f"sqlite://{tmp_path}/store.db{TIMEOUT}")), SEED)
    await strike(world, fault, SECONDS)
    check("SQLite", world, fault)


@pytest.mark.parametrize("fault", ON_NETWORKS, ids=lambda fault: fault.__name__)
async def test_each_key_has_one_answer_with_redis(
    stack: AsyncExitStack, zygote: Zygote, tmp_path: Path, fault: Fault
) -> None:
    server = stack.enter_context(Redis())
    world = await strike_through_proxy(stack, zygote, tmp_path, fault, server=server, url=server.url)
    check("Redis", world, fault)


@pytest.mark.parametrize("fault", ON_NETWORKS, ids=lambda fault: fault.__name__)
async def test_each_key_has_one_answer_and_one_row_with_postgresql(
    stack: AsyncExitStack, zygote: Zygote, tmp_path: Path, postgresql: Postgresql, fault: Fault
) -> None:
    name = fault.__name__
    url = postgresql.database(name)
    world = await strike_through_proxy(stack, zygote, tmp_path, fault, server=postgresql, url=url)
    rows = postgresql.execute("SELECT encode(record, 'hex'), attempt FROM onceserve_ledger", database=name)
    check("PostgreSQL", world, fault, ledger_of(rows, by_key(world.calls)))


async def failing_over(stack: AsyncExitStack, zygote: Zygote, home: Path, options: str) -> World:
    """Return servers at a Redis that has a standby, which has one itself."""
    primary = stack.enter_context(Redis(*AT_ONCE))
    replication = await stack.enter_async_context(Proxy(primary.port))
    standby = stack.enter_context(Redis(*AT_ONCE, "--replicaof", "127.0.0.1", str(replication.port)))
    third = stack.enter_context(Redis("--replicaof", "127.0.0.1", str(standby.port)))
    await asyncio.to_thread(eventually, lambda: standby.is_following and third.is_following, "they follow")
    proxy = await stack.enter_async_context(Proxy(primary.port))
    fleet = stack.enter_context(Fleet(zygote, home, through(proxy, primary.url) + TIMEOUT + options))
    return World(fleet, SEED, primary, proxy, replication, standby)


@pytest.mark.parametrize(("options", "keeps"), [("&replicas=1", True), ("", False)], ids=["waits", "does not wait"])
async def test_a_failover_of_redis_forgets_nothing_that_a_replica_had_to_acknowledge(
    stack: AsyncExitStack, zygote: Zygote, tmp_path: Path, options: str, keeps: bool
) -> None:
    """Without that the tail is forgotten, which also shows that what is broken is seen."""
    world = await failing_over(stack, zygote, tmp_path, options)
    await strike(world, faults.failover, SECONDS)
    found = report(world, faults.failover, None)
    print(f"\nRedis{options} | {found}")
    assert (not found.broken) == keeps, found.words
