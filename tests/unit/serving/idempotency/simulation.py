"""Servers, their clients and one store in a world without real time, in which goes wrong what a seed says.

A world has one key and two requests that both use it. Servers run the real pipeline, guard, flights and renewals; the
store is the reference (transitions.py) behind a network that loses, delays and repeats. Everything is decided by the
seed, so that a world can be run again.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar, copy_context
from typing import Any, Final, NamedTuple, TypeVar, cast
from unittest.mock import patch

import numpy as np

from onceserve_serving import admission, pipeline, served
from onceserve_serving.admission import Admission
from onceserve_serving.batching.batcher import Batcher
from onceserve_serving.errors import (
    DeadlineExceededError,
    ExecutionFailedError,
    KeyMismatchError,
    RetryLaterError,
    too_late,
)
from onceserve_serving.idempotency import breaker, calls, flights, renewal, seats, transitions
from onceserve_serving.idempotency.fingerprint import Fingerprinter
from onceserve_serving.idempotency.guard import Answered, Granted, Guard, Terms
from onceserve_serving.idempotency.record import Outcome, encode
from onceserve_serving.idempotency.renewal import SHARE, Held, Renewal
from onceserve_serving.idempotency.store import (
    Claim,
    Claimed,
    Completed,
    Completion,
    State,
    Store,
    StoreUnavailableError,
    UnknownOutcomeError,
)
from onceserve_serving.idempotency.transitions import Record
from onceserve_serving.pipeline import Call, Inference, Keyed, Pipeline
from onceserve_serving.served import ServedModel
from onceserve_serving.telemetry import Telemetry
from onceserve_serving.tensors import InferenceRequest, Signature
from unit.serving.idempotency import virtual
from unit.serving.idempotency.history import Reply, Row, judge
from unit.serving.idempotency.virtual import Loop

R = TypeVar("R")

LEASE: Final = 3.0
PATIENCE: Final = 1.0
"""Seconds that a server waits for the store's reply."""

HOUR: Final = 3600.0
FAULTS_END: Final = 40.0
AT_LAST: Final = FAULTS_END + 2 * HOUR
"""Seconds after which everybody has an answer: a clock that went back an hour keeps the lease of a dead server."""

ATTEMPTS: Final = 3
SERVERS: Final = 3
KEY: Final = b"k" * 32
CROWDS: Final = ((b"a", b"b"), (b"a", b"b"), (b"a", b"a", b"a", b"b"))
INCIDENTS: Final = ("kill", "end", "stop", "block", "store", "clock")
TIMED: Final = (admission, breaker, calls, flights, pipeline, renewal, seats)
"""Modules that look at the time."""

TELEMETRY: Final = Telemetry()
TERMS: Final = served.Terms(TELEMETRY)
FINGERPRINTS: Final = Fingerprinter()

PLACE: ContextVar["Server | None"] = ContextVar("PLACE", default=None)


class Weather(NamedTuple):
    """What goes wrong: probabilities for one message to the store, one run, or one call of a client."""

    refused: float = 0.0
    lost: float = 0.0
    unanswered: float = 0.0
    repeated: float = 0.0
    late: float = 0.0
    unstarted: float = 0.0
    failing: float = 0.0
    left: float = 0.0


class Rules:
    """What a store does; mutants do it otherwise."""

    claim = staticmethod(transitions.claim)
    complete = staticmethod(transitions.complete)
    release = staticmethod(transitions.release)
    renew = staticmethod(transitions.renew)

    @staticmethod
    def now(true: int, _server: int) -> int:
        return true


class Shelf:
    """The reference store, on a clock that can be set, and somebody who looks on."""

    def __init__(self, loop: Loop, rules: type[Rules]) -> None:
        self.record: Record | None = None
        self.rows: list[Row] = []
        self.epoch = 0
        self.skew = 0.0
        self.down_until = 0.0
        self.violations: list[str] = []
        self._loop = loop
        self._rules = rules
        self._promised = 0

    def claim(self, server: int, asked: Claim) -> Claimed:
        return self._step(server, lambda old, now: self._rules.claim(old, asked, now))

    def complete(self, server: int, asked: Completion) -> Completed:
        def step(old: Record | None, now: int) -> tuple[Record | None, Completed]:
            changed, told = self._rules.complete(old, asked.claim_id, encode(asked.answer), asked.retention, now)
            if changed is not None:
                self.rows.append(Row(self.epoch, cast("Outcome", asked.answer).body))
                self._promised = self._now() + round(asked.retention * 1000)
            return changed, told

        return self._step(server, step)

    def release(self, server: int, claim_id: bytes) -> bool:
        def step(old: Record | None, now: int) -> tuple[Record | None, bool]:
            changed, told = self._rules.release(old, claim_id, now)
            if changed is not None and old is not None and old.claim_id != claim_id:
                self.violations.append("a claim was released by another than its owner")
            return changed, told

        return self._step(server, step)

    def renew(self, server: int, claim_id: bytes, lease: float) -> bool:
        return self._step(server, lambda old, now: self._rules.renew(old, claim_id, lease, now))

    def _now(self) -> int:
        return round((self._loop.time() + self.skew) * 1000)

    def _step(self, server: int, step: Callable[[Record | None, int], tuple[Record | None, R]]) -> R:
        now = self._rules.now(self._now(), server)
        if self.record is not None and self.record.expires <= now:
            if self._promised > self._now():
                self.violations.append("an answer was forgotten before its retention ended")
            self.record, self._promised = None, 0
            self.epoch += 1
        changed, told = step(self.record, now)
        if changed is not None:
            self.record = changed
        return told


class Network:
    """The store as a server sees it; `stands` tells until when the thread that asks stands still."""

    def __init__(self, server: "Server", stands: Callable[[], float]) -> None:
        self._server = server
        self._world = server.world
        self._stands = stands

    async def claim(self, asked: Claim) -> Claimed:
        began = self._world.loop.time()
        told = await self._ask(lambda: self._world.shelf.claim(self._server.number, asked))
        if isinstance(told, Granted):
            self._server.leases[asked.claim_id] = began
        return told

    async def complete(self, asked: Completion) -> Completed:
        self._server.completions[asked.claim_id] += 1
        told = await self._ask(lambda: self._world.shelf.complete(self._server.number, asked))
        self._world.confirmed_late += self._server.completions[asked.claim_id] > len(calls.AGAIN)
        self._server.leases.pop(asked.claim_id, None)
        return told

    async def release(self, _record: bytes, claim_id: bytes) -> bool:
        return await self._ask(lambda: self._world.shelf.release(self._server.number, claim_id))

    async def renew(self, _record: bytes, claim_id: bytes, lease: float) -> bool:
        began = self._world.loop.time()
        held = await self._ask(lambda: self._world.shelf.renew(self._server.number, claim_id, lease))
        if held and claim_id in self._server.leases:
            self._server.leases[claim_id] = began
        return held

    async def _ask(self, step: Callable[[], R]) -> R:
        await self._stand()
        world, weather = self._world, self._world.weather
        if self._server.is_dead:
            raise asyncio.CancelledError
        if world.loop.time() < world.shelf.down_until or world.happens(weather.refused):
            raise StoreUnavailableError("refused")
        reply: asyncio.Future[R] = world.loop.create_future()
        if not world.happens(weather.lost):
            world.loop.call_later(world.delay(), self._deliver, step, reply, world.happens(weather.unanswered))
        if world.happens(weather.repeated):
            world.loop.call_later(world.chance.uniform(0, 4 * LEASE), step)
        await asyncio.wait({reply}, timeout=PATIENCE)
        await self._stand()
        if not reply.done():
            raise UnknownOutcomeError("no reply")
        return reply.result()

    def _deliver(self, step: Callable[[], R], reply: "asyncio.Future[R]", unanswered: bool) -> None:
        told = step()
        if not unanswered:
            self._world.loop.call_later(self._world.delay(), reply.set_result, told)

    async def _stand(self) -> None:
        while (left := self._stands() - self._world.loop.time()) > 0:  # noqa: ASYNC110  it may be stopped again meanwhile
            await asyncio.sleep(left)


class Model(ServedModel):
    """A model every run of which gives something else, and whose run kills the server if the world is deadly."""

    def __init__(self, server: "Server") -> None:
        super().__init__("m", f"v{server.number}", TERMS)
        self._door = Admission(TERMS.capacity, lambda _: None)
        self._server = server

    def journey(self) -> tuple[Signature, Admission, Batcher]:
        return Signature({}, {}), self._door, cast("Batcher", self)

    async def run(self, _inputs: object, _outputs: object, _arrived: float, deadline: float) -> list[Any]:
        world = self._server.world
        await asyncio.sleep(world.chance.choice((0.0, 0.01, 0.2)))
        if world.loop.time() >= deadline or world.happens(world.weather.unstarted):
            raise too_late()
        world.runs += 1
        run = np.array(world.runs)
        await asyncio.sleep(world.chance.choice((0.0, 0.3, 3 * LEASE)))
        if world.deadly:
            self._server.die(at_once=True)
            await asyncio.sleep(HOUR)
        if world.happens(world.weather.failing):
            raise ExecutionFailedError("failed")
        return [run]


class Claims(dict[Held, None]):
    """Those that are held, and whether there are any to be awaited."""

    def __init__(self) -> None:
        super().__init__()
        self.any = asyncio.Event()

    def __setitem__(self, held: Held, _: None) -> None:
        super().__setitem__(held, None)
        self.any.set()


class Renewals(Renewal):
    """Renews as the thread does, in the world's time, and does nothing while nothing is held."""

    def __init__(self, store: Store, lease: float, stands: Callable[[], bool]) -> None:
        super().__init__(store, lease)
        self._held: Claims = Claims()
        self._stands = stands

    async def go_on(self, store: Store) -> None:
        while True:
            await self._held.any.wait()
            await asyncio.sleep(self._lease / SHARE / 2)
            if not self._stands():
                await self._renew_due(store)
            if not self._held:
                self._held.any.clear()


class Server:
    """One life of a server; `number` tells it from all others."""

    def __init__(self, world: "World", number: int, *, make: type[Guard], terms: Terms) -> None:
        self.world = world
        self.number = number
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.stopped_until = 0.0
        self.blocked_until = 0.0
        self.is_dead = False
        self.completions: Counter[bytes] = Counter()
        self.leases: dict[bytes, float] = {}
        self._lease = terms.lease
        self._model = Model(self)
        store = cast("Store", Network(self, lambda: max(self.stopped_until, self.blocked_until)))
        self._renewals = Renewals(store, terms.lease, lambda: self.stopped_until > world.loop.time())
        guard = make(store, self._renewals, terms, TELEMETRY)
        self.pipeline = Pipeline(timeout=10.0, guard=guard)
        self.spawn(self._renewals.go_on(cast("Store", Network(self, lambda: self.stopped_until))))

    @property
    def at_work(self) -> bool:
        """Whether it holds a claim."""
        return bool(self._renewals._held)

    def has_thrown_away(self, claim_id: bytes) -> bool:
        """Whether it ran a request, has the claim for all that it knows, and yet does nothing for the answer."""
        lasts = self.world.loop.time() < self.leases.get(claim_id, -self._lease) + self._lease
        held = {held.claim_id for held in self._renewals._held}
        return claim_id in self.completions and lasts and claim_id not in held

    def spawn(self, coroutine: Coroutine[Any, Any, R]) -> "asyncio.Task[R]":
        """Run something that ends with this server."""
        context = copy_context()
        context.run(PLACE.set, self)
        return self.world.loop.create_task(coroutine, context=context)

    async def infer(self, request: bytes, wait: float) -> Answered:
        def encode(inference: Inference) -> Outcome:
            return Outcome(200, (), b"%b by %b, run %d" % (request, inference.version.encode(), inference.arrays[0]))

        def refuse(error: Exception) -> Outcome:
            self.world.refusals += 1
            return Outcome(500, (), b"%b failed %d: %b" % (request, self.world.refusals, str(error).encode()))

        call = Call(self._model, len(request), lambda _: InferenceRequest(None, {}, ()))
        return await self.pipeline.infer_once(call, Keyed(KEY, FINGERPRINTS.of(b"", request), wait, encode, refuse))

    def die(self, *, at_once: bool) -> None:
        """End: at once, as by a signal that cannot be caught, or as a loop ends that cancels what it runs."""
        self.is_dead = at_once
        for task in list(self.tasks):
            task.cancel()
        self.world.replace(self)


class World:
    """All that happens for one seed; `violations` tells which promises were broken."""

    def __init__(
        self,
        seed: int,
        *,
        make: type[Guard] = Guard,
        rules: type[Rules] = Rules,
        lease: float | None = None,
        leases_end: bool = True,
        incidents: Sequence[str] = INCIDENTS,
    ) -> None:
        self.loop = Loop()
        self.loop.set_task_factory(_task)
        self.chance = random.Random(seed)
        self.weather = Weather(*[self.chance.choice((0.0, 0.0, 0.05, 0.2, 0.4, 0.7)) for _ in Weather._fields])
        self.deadly = self.happens(0.15)
        self.shelf = Shelf(self.loop, rules)
        self.replies: list[Reply] = []
        self.runs = self.refusals = self.confirmed_late = 0
        chosen = lease or self.chance.choice((LEASE, LEASE, 4 * LEASE))
        self._retention = self.chance.choice((10 * chosen, 10 * chosen, 24 * HOUR))
        self._kinds = self.chance.sample(incidents, min(self.chance.choice((1, 2, 4)), len(incidents)))
        self._seconds_between_incidents = self.chance.choice((0.5, 2.0, 5.0))
        terms = Terms(
            lease=chosen if leases_end else self._retention,
            retention=self._retention,
            fail_open=False,
            ledger=False,
            recalls=served.DEFAULT_CAPACITY,
        )
        self._make: Callable[[int], Server] = lambda number: Server(self, number, make=make, terms=terms)
        self.lives = 0
        self._servers: list[Server] = []

    @property
    def violations(self) -> list[str]:
        """What was seen, in words."""
        return [*self.shelf.violations, *self.loop.failures, *judge(self.replies, self.shelf.rows), *self._bound()]

    def happens(self, probability: float) -> bool:
        return self.chance.random() < probability

    def delay(self) -> float:
        """Return the seconds that a message is under way: some arrive when nobody waits for them any more."""
        if self.happens(self.weather.late):
            return self.chance.choice((0.3, PATIENCE + 0.1, 2 * LEASE, 20 * LEASE))
        return self.chance.uniform(0.001, 0.02)

    def replace(self, server: Server) -> None:
        """Start another server in place of this one, after a while, of a newer revision."""
        self._servers.remove(server)
        self.loop.call_later(self.chance.uniform(0.1, 3), self._start)

    def run(self) -> "World":
        """Let it all happen."""
        with _time_of(self.loop):
            virtual.run(self._live(), self.loop)
        return self

    async def _live(self) -> None:
        for _ in range(SERVERS):
            self._start()
        going_on = asyncio.create_task(self._incidents())
        clients = [asyncio.create_task(self._come(request)) for request in self.chance.choice(CROWDS)]
        _, waiting = await asyncio.wait(clients, timeout=AT_LAST)
        for client in clients:
            if client.done():
                client.result()
        if waiting:
            self.shelf.violations.append(f"no answer for {len(waiting)} clients")
        await going_on
        try:
            await asyncio.wait_for(asyncio.gather(*(server.pipeline.settled() for server in self._servers)), HOUR)
        except TimeoutError:
            self.shelf.violations.append("what was asked never ends")

    def _start(self) -> None:
        self.lives += 1
        self._servers.append(self._make(self.lives))

    async def _incidents(self) -> None:
        while True:
            await asyncio.sleep(self.chance.expovariate(1 / self._seconds_between_incidents))
            if self.loop.time() > FAULTS_END:
                break
            if self._servers:
                at_work = [server for server in self._servers if server.at_work]
                self._incident(self.chance.choice(at_work or self._servers))
        self.weather = Weather()

    def _incident(self, server: Server) -> None:
        long = self.chance.choice((2 * LEASE, 20 * LEASE))
        match self.chance.choice(self._kinds):
            case "kill":
                server.die(at_once=True)
            case "end":
                server.die(at_once=False)
            case "stop":
                server.stopped_until = self.loop.time() + long
            case "block":
                server.blocked_until = self.loop.time() + long
            case "store":
                self.shelf.down_until = self.loop.time() + self.chance.choice((LEASE / 2, 2 * LEASE))
            case "clock":
                self.shelf.skew = HOUR - self.shelf.skew

    async def _come(self, request: bytes) -> None:
        """Ask until there is an answer, and later again."""
        for _ in range(self.chance.randint(1, 3)):
            await asyncio.sleep(self.chance.choice((0.0, 0.05, 4 * LEASE, 12 * LEASE)))
            called, patience = self.shelf.epoch, 1.0
            while (again := await self._ask(request, called)) is not None:
                await asyncio.sleep(again * patience + self.chance.uniform(0.01, 0.3))
                patience = min(1.5 * patience, 200.0)

    async def _ask(self, request: bytes, called: int) -> float | None:
        """Ask one server; return the seconds after which to ask again, None if that was the last word."""
        if not self._servers:
            return 1.0
        asking = self.chance.choice(self._servers).spawn(self._infer(request))
        patience = self.chance.choice((0.01, 0.3, 4.0)) if self.happens(self.weather.left) else None
        await asyncio.wait({asking}, timeout=patience)
        if not asking.done() or asking.cancelled():
            asking.cancel()
            return 0.1
        return self._note(request, called, asking)

    async def _infer(self, request: bytes) -> Answered:
        server = PLACE.get()
        assert server is not None
        return await server.infer(request, self.chance.choice((0.0, 0.0, 5.0)))

    def _note(self, request: bytes, called: int, asked: "asyncio.Task[Answered]") -> float | None:
        match asked.exception():
            case None:
                self.replies.append(Reply(request, asked.result().outcome.body, called, self.shelf.epoch))
            case KeyMismatchError():
                self.replies.append(Reply(request, None, called, self.shelf.epoch))
            case RetryLaterError(retry_after=seconds):
                self._look_for_waste()
                return seconds
            case DeadlineExceededError():
                return 0.1
            case unexpected:
                raise AssertionError from unexpected
        return None

    def _look_for_waste(self) -> None:
        record = self.shelf.record
        if record is not None and record.state == State.RUNNING:
            wasteful = any(server.has_thrown_away(record.claim_id) for server in self._servers)
            self.shelf.violations += ["a run was thrown away"] * wasteful

    def _bound(self) -> Iterator[str]:
        if self.runs > (most := ATTEMPTS * (self.shelf.epoch + 1)):
            yield f"there were {self.runs} runs where {most} are the most"


class Outages(World):
    """In which nothing fails but the store, each time for less than its leases last without renewal."""

    def __init__(self, seed: int, *, make: type[Guard] = Guard) -> None:
        super().__init__(seed, make=make, lease=4 * LEASE)
        self.weather, self.deadly = Weather(), False

    async def _incidents(self) -> None:
        while self.loop.time() < FAULTS_END:
            await asyncio.sleep(self.chance.choice((0.01, 0.1, LEASE)))
            self.shelf.down_until = self.loop.time() + self.chance.uniform(0.5, LEASE)
            await asyncio.sleep(2 * LEASE)


@contextmanager
def _time_of(loop: Loop) -> Iterator[None]:
    with ExitStack() as stack:
        for module in TIMED:
            stack.enter_context(patch.object(module, "time", loop))
        yield


def _task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> "asyncio.Task[Any]":
    """Make a task that ends with the server on which it began."""
    task = asyncio.Task(coroutine, loop=loop, **options)
    context = options.get("context")
    place = PLACE.get() if context is None else context.get(PLACE)
    if place is not None:
        place.tasks[task] = None
        task.add_done_callback(lambda done: place.tasks.pop(done, None))
    return task
