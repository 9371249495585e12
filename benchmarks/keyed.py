"""What an idempotency key costs: the same server without a store and with each, every request with a key of its own."""

import contextlib
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks import rounds, table, wrk
from benchmarks.payloads import Form
from benchmarks.rounds import Plan, Site
from benchmarks.subjects import Ours
from support.databases import DatabaseServer, Postgresql, Redis

MODEL: Final = "risk"
CONNECTIONS: Final = (1, 16, 64)
BARE: Final = "none"
"""The server without a store; its requests carry a header as long as a key."""

UNIQUE: Final = """
local number = 0
function request()
  number = number + 1
  wrk.headers["{header}"] = "{prefix}-" .. number
  return wrk.format()
end
"""
SAME: Final = """
wrk.headers["{header}"] = "{prefix}"
"""


@dataclass(frozen=True)
class Keyed:
    """Loads of one store in one round, each key once, and replays of one key."""

    store: str
    round: int
    connections: int
    unique: wrk.Load
    same: wrk.Load | None


def run(plan: Plan) -> list[Keyed]:
    """Measure each store, round after round."""
    return [one for number in range(1, plan.rounds + 1) for store in STORES for one in _measure(store, number, plan)]


def _measure(store: str, number: int, plan: Plan) -> Iterator[Keyed]:
    print(f"keys, round {number}/{plan.rounds}: {store}", file=sys.stderr, flush=True)
    with STORES[store](plan) as url:
        options = ("--idempotency-store", url) if url else ()
        with rounds.serving(Ours(options=options), plan.every_model[MODEL], plan) as site:
            site.check(Form.JSON)
            _load(site, UNIQUE, max(CONNECTIONS), plan.warm_up, plan, keyed=bool(url))
            for connections in CONNECTIONS:
                unique = _load(site, UNIQUE, connections, plan.seconds, plan, keyed=bool(url))
                same = _load(site, SAME, connections, plan.seconds, plan, keyed=True) if url else None
                yield Keyed(store, number, connections, unique, same)


def _load(site: Site, script: str, connections: int, seconds: float, plan: Plan, *, keyed: bool) -> wrk.Load:
    header = "Idempotency-Key" if keyed else "X-No-Key-At-All"
    return wrk.run(
        site.url,
        site.payload(Form.JSON),
        connections=connections,
        seconds=seconds,
        core=plan.cores.load,
        scratch=plan.scratch,
        more=script.format(header=header, prefix=secrets.token_hex(8)),
    )


@contextlib.contextmanager
def _given(url: str) -> Iterator[str]:
    yield url


@contextlib.contextmanager
def _started(server: DatabaseServer) -> Iterator[str]:
    with server:
        yield server.url


def _sqlite(plan: Plan) -> AbstractContextManager[str]:
    return _given(f"sqlite://{plan.scratch}/answers-{secrets.token_hex(4)}.db")


STORES: Final[dict[str, Callable[[Plan], AbstractContextManager[str]]]] = {
    BARE: lambda _: _given(""),
    "memory": lambda _: _given("memory:"),
    "sqlite": _sqlite,
    "redis, AOF always": lambda _: _started(Redis()),
    "postgresql": lambda _: _started(Postgresql()),
}


def markdown(found: list[Keyed]) -> str:
    """Return the table: shares are of the server without a store in the same round."""
    head = [f"{count} connection{'s' if count > 1 else ''}" for count in CONNECTIONS]
    rows = [["store", *head, "added at 1: p50, ms", "added at 16: p50, p99, ms", "replays at 64"]]
    rows.extend(_row(found, store) for store in STORES)
    return table.markdown(rows)


def _row(found: list[Keyed], store: str) -> list[str]:
    by = {count: [one for one in found if (one.store, one.connections) == (store, count)] for count in CONNECTIONS}
    shares = [_share(found, by[count], lambda one: one.unique) for count in CONNECTIONS]
    if store == BARE:
        return [store, *shares, "–", "–", "–"]
    replays = _share(found, by[CONNECTIONS[-1]], lambda one: one.same)
    added = [_added(found, by[count], which) for count, which in ((1, "p50"), (16, "p50"), (16, "p99"))]
    return [store, *shares, added[0], f"{added[1]}, {added[2]}", replays]


def _share(found: list[Keyed], ours: list[Keyed], load: Callable[[Keyed], wrk.Load | None]) -> str:
    pairs = [(load(one), _bare(found, one)) for one in ours]
    shares = [mine.good_per_second / bare.good_per_second for mine, bare in pairs if mine is not None]
    flawed = sum(mine.refused + mine.broken for mine, _ in pairs if mine is not None)
    rate = median(mine.good_per_second for mine, _ in pairs if mine is not None)
    return f"{rate:,.0f}/s ({100 * median(shares):.0f} %)" + (f", {flawed} failed" if flawed else "")


def _added(found: list[Keyed], ours: list[Keyed], quantile: str) -> str:
    added = [getattr(one.unique, quantile) - getattr(_bare(found, one), quantile) for one in ours]
    return f"{median(added) / 1e3:.2f}"


def _bare(found: list[Keyed], like: Keyed) -> wrk.Load:
    return next(
        one.unique for one in found if (one.store, one.round, one.connections) == (BARE, like.round, like.connections)
    )
