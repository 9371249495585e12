"""What goes wrong with servers, stores, networks and callers while keys are answered, and what came of it.

Each run: three servers share a store; callers ask under keys until each has its answer, often twice at once, and again
later; all the while one kind of fault comes and goes. Then all heals, and every key is asked for at every server.
"""

import asyncio
import itertools
import random
import signal
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import httpx

from contract.idempotency import dice
from contract.idempotency.fleet import Fleet, executions
from contract.serving.process import Server
from onceserve_serving.idempotency.keys import Keys
from onceserve_serving.observation import ROUTE
from support.databases import DatabaseServer, Redis
from support.history import Answer, Call, Open, Result, Reused, broken, by_key, violations
from support.proxy import Proxy

SERVERS: Final = 3
CALLERS: Final = 8
LEASE: Final = 1.0
SCOPE: Final = "faults"
PATIENT: Final = 3.0
"""Seconds that callers wait for an answer."""

AT_LAST: Final = 60.0
"""Seconds for all to be answered when the faults are over."""

OPTIONS: Final = ("--idempotency-lease", str(LEASE), "--idempotency-scope", SCOPE, "--timeout", "5")
REFUSED: Final = frozenset({409, 429, 503, 504})
REUSED: Final = 422


@dataclass(eq=False)
class World:
    """All that a fault may strike, and what the callers saw."""

    fleet: Fleet
    seed: int
    store: DatabaseServer | None = None
    proxy: Proxy | None = None
    replication: Proxy | None = None
    standby: Redis | None = None
    patience: float = PATIENT
    calls: list[Call] = field(default_factory=list)
    executed: float = 0.0
    faults: int = 0
    over: bool = False
    serving: list[Server] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    async def begin(self) -> None:
        """Start the servers."""
        self.serving = [self.fleet.start(*OPTIONS) for _ in range(SERVERS)]
        self.urls = [(await asyncio.to_thread(server.ready)).url() for server in self.serving]

    async def replace(self, at: int, number: signal.Signals) -> None:
        """End a server and start another, whose model gives other answers."""
        server = self.serving[at]
        with suppress(httpx.HTTPError):
            self.executed += await asyncio.to_thread(executions, server)
        server.signal(number)
        await asyncio.to_thread(server.wait)
        self.serving[at] = await asyncio.to_thread(self.fleet.start(*OPTIONS).ready)
        self.urls[at] = self.serving[at].url()

    async def pause(self, least: float, most: float) -> None:
        """Let some time pass."""
        await asyncio.sleep(self.random.uniform(least, most))

    async def wait(self, until: Callable[[], bool], seconds: float) -> None:
        """Let time pass until something is so, or the seconds are over."""
        end = time.monotonic() + seconds
        while not until() and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    @property
    def answered(self) -> int:
        """How many first answers callers have heard."""
        return sum(isinstance(call.result, Answer) and call.result.fresh for call in self.calls)


Fault: TypeAlias = Callable[[World], Awaitable[None]]


async def rollout(world: World) -> None:
    """Replace a server by one of another revision."""
    await world.replace(world.random.randrange(SERVERS), signal.SIGTERM)
    await world.pause(0.0, 0.3)


async def kill(world: World) -> None:
    """Kill a server."""
    await world.replace(world.random.randrange(SERVERS), signal.SIGKILL)
    await world.pause(0.0, 0.3)


async def stand_still(world: World) -> None:
    """Stop a server for twice the lease; its callers ask elsewhere meanwhile."""
    server = world.random.choice(world.serving)
    await world.pause(0.1, 0.5)
    server.signal(signal.SIGSTOP)
    world.patience = LEASE / 2
    try:
        await asyncio.sleep(2 * LEASE)
    finally:
        server.signal(signal.SIGCONT)
    world.patience = PATIENT


async def store_dies(world: World) -> None:
    """Kill the store and start it again."""
    assert world.store is not None
    await world.pause(0.3, 0.8)
    await asyncio.to_thread(world.store.kill)
    await world.pause(0.0, 0.5)
    await asyncio.to_thread(world.store.start)
    await world.pause(0.5, 1.5)


async def store_hangs(world: World) -> None:
    """Have nothing pass between servers and store."""
    await _lose(world, requests=False)


async def replies_vanish(world: World) -> None:
    """Have the store do what it is asked, and nobody hear of it."""
    await _lose(world, requests=True)


async def _lose(world: World, *, requests: bool) -> None:
    assert world.proxy is not None
    await world.pause(0.2, 0.6)
    world.proxy.requests, world.proxy.replies = requests, False
    await world.pause(0.2, 1.0)
    world.proxy.heal()
    await world.pause(0.5, 1.5)


async def connections_break(world: World) -> None:
    """Break the connections between servers and store, over and over."""
    assert world.proxy is not None
    await world.pause(0.0, 0.1)
    world.proxy.cut()


async def failover(world: World) -> None:
    """Cut the store from its standby, kill it some time later, and go on with the standby; once."""
    assert world.store is not None
    assert world.proxy is not None
    assert world.replication is not None
    assert world.standby is not None
    await world.pause(0.5, 0.6)
    if world.proxy.upstream == world.standby.port:
        world.faults -= 1
        return
    answered = world.answered
    world.replication.replies = False
    await world.pause(0.8, 1.0)
    # On a slow machine nothing may have been answered yet that the standby does not have.
    await world.wait(lambda: world.answered >= answered + CALLERS, 3.0)
    await asyncio.to_thread(world.store.kill)
    await asyncio.to_thread(world.standby.ask, "REPLICAOF NO ONE")
    world.proxy.upstream = world.standby.port
    world.proxy.cut()


async def callers_leave(world: World) -> None:
    """Have callers give up after some milliseconds."""
    world.patience = 0.02
    await world.pause(0.1, 0.5)
    world.patience = PATIENT
    await world.pause(0.0, 0.1)


async def strike(world: World, fault: Fault, seconds: float) -> None:
    """Let callers ask for so long under a fault, then heal all and see that every key has its answer everywhere."""
    await world.begin()
    async with httpx.AsyncClient(trust_env=False) as http:
        asking = asyncio.gather(*(_caller(world, http, number) for number in range(CALLERS)))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await fault(world)
            world.faults += 1
        world.over = True
        async with asyncio.timeout(AT_LAST):
            await asking
            await _audit(world, http)
    for server in world.serving:
        world.executed += await asyncio.to_thread(executions, server)


async def _caller(world: World, http: httpx.AsyncClient, number: int) -> None:
    numbers = random.Random(f"{world.seed} {number}")

    def anywhere() -> int:
        return numbers.randrange(SERVERS)

    for count in itertools.count():
        key, work = f"{world.seed}-{number}-{count}", numbers.choice((0, 0, 1_000))
        asked = [_until_answered(world, http, anywhere, key, work) for _ in range(numbers.choice((1, 1, 2)))]
        if not numbers.randrange(10):
            asked.append(_until_answered(world, http, anywhere, key, work + 1))
        await asyncio.gather(*asked)
        await _ask(world, http, anywhere(), key, work)
        if world.over:
            return


async def _until_answered(
    world: World, http: httpx.AsyncClient, server: Callable[[], int], key: str, work: int
) -> None:
    while True:
        if not isinstance(await _ask(world, http, server(), key, work), Open):
            return
        await world.pause(0.0, 0.2)


async def _audit(world: World, http: httpx.AsyncClient) -> None:
    """Ask for all that was asked, once more at every server."""
    slots = asyncio.Semaphore(CALLERS)

    async def one(at: int, key: str, work: int) -> None:
        async with slots:
            await _until_answered(world, http, lambda: at, key, work)

    asked = {(call.key, int(call.request)) for call in world.calls}
    await asyncio.gather(*(one(at, key, work) for key, work in asked for at in range(SERVERS)))


async def _ask(world: World, http: httpx.AsyncClient, at: int, key: str, work: int) -> Result:
    began = time.monotonic()
    result = await _result(http, world.urls[at] + dice.PATH, key, work, world.patience)
    world.calls.append(Call(key, str(work), began, time.monotonic(), result))
    return result


async def _result(http: httpx.AsyncClient, url: str, key: str, work: int, patience: float) -> Result:
    try:
        async with asyncio.timeout(patience):
            answer = await http.post(url, json=dice.body(work), headers={dice.KEY: f'"{key}"'}, timeout=None)
    except (httpx.TransportError, TimeoutError):
        return Open.UNHEARD
    if answer.status_code in REFUSED:
        return Open.REFUSED
    if answer.status_code == REUSED:
        return Reused()
    attempt = answer.headers.get(dice.ATTEMPT)
    return Answer(answer.status_code, answer.content, not dice.is_replay(answer), attempt and int(attempt))


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a run. `open`: calls that were refused for now or not heard; `again`: answers of a later attempt."""

    fault: str
    faults: int
    keys: int
    calls: int
    open: int
    executions: int
    again: int
    broken: Mapping[str, int]
    words: tuple[str, ...]

    def __str__(self) -> str:
        counts = (self.faults, self.keys, self.calls, self.open, self.executions, self.again)
        kept = [f"{promise} {self.broken.get(promise, 0)}" for promise in ("divergent", "double", "lost", "another")]
        return " | ".join((self.fault, *map(str, counts), ", ".join(kept)))


def report(world: World, fault: Fault, ledger: Mapping[str, list[int]] | None) -> Report:
    """Return what came of a run, the promises checked."""
    found = violations(world.calls, ledger)
    results = [call.result for call in world.calls]
    attempts = [one.attempt for one in results if isinstance(one, Answer) and one.attempt is not None]
    return Report(
        fault=fault.__name__.replace("_", " "),
        faults=world.faults,
        keys=len(by_key(world.calls)),
        calls=len(results),
        open=sum(isinstance(one, Open) for one in results),
        executions=int(world.executed),
        again=sum(attempt > 1 for attempt in attempts),
        broken=broken(found),
        words=tuple(map(str, found[:5])),
    )


def record_of(key: str) -> bytes:
    """Return the identity that the servers give to a key's record."""
    return Keys(scope=SCOPE.encode()).record(key.encode(), "", f"POST {ROUTE}")


def ledger_of(rows: str, keys: Mapping[str, object]) -> dict[str, list[int]]:
    """Return the attempts of each key's rows, from lines of a record in hexadecimal, a bar and an attempt."""
    names = {record_of(key).hex(): key for key in keys}
    found: dict[str, list[int]] = defaultdict(list)
    for line in rows.splitlines():
        record, _, attempt = line.partition("|")
        found[names[record]].append(int(attempt))
    return found


def through(proxy: Proxy, url: str) -> str:
    """Return the URL of a store as it is seen through the proxy before it."""
    return url.replace(f":{proxy.upstream}/", f":{proxy.port}/")
