"""Exactly once under faults, with real processes and real stores: `FAULT_SECONDS=30 make soak-once` looks longer."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from contract.idempotency import faults
from contract.idempotency.faults import Fault, World, behind, by_key, ledger_of, report, strike
from contract.idempotency.fleet import Fleet
from contract.serving.zygote import Zygote
from support.databases import DatabaseServer, Postgresql, Redis

SECONDS = float(os.environ.get("FAULT_SECONDS", "2.5"))
"""Seconds of each fault."""

SEED = int(os.environ.get("FAULT_SEED", "1"))

OF_ALL = (faults.nothing, faults.rollout, faults.kill, faults.stand_still, faults.callers_leave)
OF_STORES = (faults.store_dies,)
OF_NETWORKS = (faults.store_hangs, faults.replies_vanish, faults.connections_break)
MATRIX = [
    *((kind, fault) for kind in (None, Redis, Postgresql) for fault in OF_ALL),
    *((kind, fault) for kind in (Redis, Postgresql) for fault in (*OF_STORES, *OF_NETWORKS)),
]


async def world_of(stack: AsyncExitStack, zygote: Zygote, home: Path, kind: type[DatabaseServer] | None) -> World:
    """Return servers at a store of their own, behind a proxy if it is one on the network."""
    if kind is None:
        return World(stack.enter_context(Fleet(zygote, home, f"sqlite://{home}/store.db?timeout=0.5")), SEED)
    server = stack.enter_context(kind())
    proxy, url = await stack.enter_async_context(behind(server))
    return World(stack.enter_context(Fleet(zygote, home, f"{url}?timeout=0.5")), SEED, server, proxy)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as one:
        yield one


@pytest.mark.timeout(2 * SECONDS + 120)
@pytest.mark.parametrize(
    ("kind", "fault"), MATRIX, ids=[f"{kind.__name__ if kind else 'Sqlite'}-{fault.__name__}" for kind, fault in MATRIX]
)
async def test_each_key_has_one_answer(
    stack: AsyncExitStack, zygote: Zygote, tmp_path: Path, kind: type[DatabaseServer] | None, fault: Fault
) -> None:
    world = await world_of(stack, zygote, tmp_path, kind)
    await strike(world, fault, SECONDS)
    ledger = None
    if isinstance(world.store, Postgresql):
        rows = world.store.execute("SELECT encode(record, 'hex'), attempt FROM onceserve_ledger")
        ledger = ledger_of(rows, by_key(world.calls))
    found = report(world, fault, ledger)
    print(f"\n{kind.__name__ if kind else 'Sqlite':10} | {found}")
    assert not found.broken, found.words
    assert found.keys > CALLERS_AT_LEAST


CALLERS_AT_LEAST = faults.CALLERS
"""Keys that a run has at least: each caller comes to its second."""
