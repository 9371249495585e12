"""HTTP as uvicorn speaks it, with a shorter way for inference: from the parser to the endpoint, without ASGI.

ASGI's messages and its two writes an answer cost more than a small model. What is parsed, refused, pipelined and timed
is uvicorn's and httptools' in both ways.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import httptools
from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from onceserve_serving.tensors import Buffer

log = logging.getLogger(__name__)

Headers: TypeAlias = Mapping[bytes, bytes]
Pairs: TypeAlias = Sequence[tuple[bytes, bytes]]

JOINED: Final = 2**16
"""Bytes up to which an answer is joined and sent as one: a copy costs less than a further piece."""

DIRECT: Final = 2**16
"""Bytes of a body still to come from which on they are taken past the parser, to where they will be used."""

NOTHING: Final = memoryview(b"")

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Head(NamedTuple):
    """A request without its body; header names are in lower case, `pairs` has them all in their order."""

    method: str
    url: bytes
    headers: Headers
    pairs: Pairs


class Answer(NamedTuple):
    """A response, its body in pieces."""

    status: int
    headers: list[tuple[bytes, bytes]]
    pieces: list[Buffer]


class Exchange(Protocol):
    """One request from its head to its answer; none of its methods raises."""

    refusal: Answer | None
    """The answer that needs no (more) body."""

    def add(self, piece: bytes) -> Answer | None:
        """Take a piece of the body; return the refusal if it was one too many."""

    def room(self) -> memoryview | None:
        """Return where the rest of the body goes, if that is known."""

    async def answer(self) -> Answer:
        """Return the answer to the complete request; cancelled when its client leaves."""

    def abandon(self) -> None:
        """Note that the client left before its request was complete; whoever awaits an answer is cancelled instead."""


class Endpoint(Protocol):
    """What answers the requests that leave ASGI."""

    def claims(self, method: bytes, url: bytes) -> bool:
        """Tell whether a request is for this endpoint."""

    def open(self, head: Head) -> Exchange:
        """Begin with a request."""


class ResponseHeads:
    """Status lines with the headers that every answer has, made anew only when uvicorn changes these."""

    def __init__(self) -> None:
        self._defaults: Pairs = ()
        self._heads: dict[int, bytes] = {}
        self.closes = False

    def of(self, status: int, defaults: Pairs) -> bytes:
        """Return how an answer begins; `closes` then tells whether it ends its connection."""
        if defaults is not self._defaults:
            self._defaults = defaults
            self._heads = {}
            self.closes = (b"connection", b"close") in defaults
        head = self._heads.get(status)
        if head is None:
            head = self._heads[status] = STATUS_LINE[status] + _lines(defaults)
        return head


class Cycle:
    """An inference request on its connection; stands where uvicorn expects a cycle of its own."""

    __slots__ = (
        "complete",
        "disconnected",
        "exchange",
        "head_only",
        "keep_alive",
        "message_event",
        "response_complete",
        "task",
        "wants_continue",
    )

    message_event: asyncio.Event

    def __init__(self, exchange: Exchange, *, keep_alive: bool, head_only: bool, wants_continue: bool) -> None:
        self.exchange = exchange
        self.keep_alive = keep_alive
        self.head_only = head_only
        self.wants_continue = wants_continue
        self.complete = False
        self.response_complete = False
        self.disconnected = False
        self.task: asyncio.Task[None] | None = None
        self.message_event = _NOBODY_WAITS

    def leave(self, loop: asyncio.AbstractEventLoop) -> None:
        """End what goes on for a client that has left."""
        self.response_complete = True
        if self.task is None:
            self.exchange.abandon()
        else:
            # A task that is cancelled before its first step never enters what would count it.
            loop.call_soon(self.task.cancel)


_NOBODY_WAITS: Final = asyncio.Event()


class InferProtocol(HttpToolsProtocol):
    """One connection."""

    cycle: RequestResponseCycle | Cycle  # type: ignore[assignment]

    def __init__(
        self,
        endpoint: Endpoint,
        heads: ResponseHeads,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._endpoint = endpoint
        self._heads = heads
        self._current: Cycle | None = None
        self._advancing = False
        self._idle_since: float | None = None
        self._watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, and end the connection if nothing comes."""
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        self._watch = self.loop.call_later(self.timeout_keep_alive, self._end_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        """End what goes on for the client."""
        if self._current is not None:
            self._current.leave(self.loop)
        for cycle, _ in self.pipeline:
            if isinstance(cycle, Cycle):
                cycle.leave(self.loop)
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came; the rest of a large body comes another way."""
        super().data_received(data)
        current = self._current
        if current is None or current is not self.cycle or current.complete or current.exchange.refusal is not None:
            return
        room = current.exchange.room()
        if room is not None and len(room) >= DIRECT and not self.transport.is_closing():
            self._switch(Filling(self, room))

    def on_message_begin(self) -> None:
        """Forget the request before; what ASGI needs of this one is made if it goes there."""
        self._idle_since = None
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        """Begin with a request, its body still to come."""
        method = self.parser.get_method()
        if not self._endpoint.claims(method, self.url):
            self._leave_to_asgi()
            return
        before = self.cycle
        head = Head(method.decode("ascii"), self.url, dict(self.headers), self.headers)
        cycle = self.cycle = Cycle(
            self._endpoint.open(head),
            keep_alive=self._keeps_alive(),
            head_only=method == b"HEAD",
            wants_continue=self.expect_100_continue,
        )
        if before is None or before.response_complete:
            self._take_turn(cycle)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))  # type: ignore[arg-type]

    def _keeps_alive(self) -> bool:
        # The parser takes what follows the head of an upgrade for another protocol's, or for the next request.
        lasts = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        return lasts and not self.parser.should_upgrade()

    def _leave_to_asgi(self) -> None:
        url, headers, expect_100_continue = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect_100_continue
        self.headers.extend(headers)
        super().on_headers_complete()
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        cycle = self.cycle
        if not isinstance(cycle, Cycle):
            super().on_body(body)
        elif cycle.exchange.refusal is None and cycle.exchange.add(body) is not None and cycle is self._current:
            self._refuse(cycle)

    def on_message_complete(self) -> None:
        """Answer a request that has come as a whole."""
        cycle = self.cycle
        if cycle.response_complete:
            # It was answered before it was complete.
            self._idle_since = self.loop.time()
        elif not isinstance(cycle, Cycle):
            super().on_message_complete()
        else:
            cycle.complete = True
            if cycle is self._current and cycle.task is None:
                self._run(cycle)

    def on_filled(self) -> None:
        """Answer a request whose body came past the parser, and parse again what follows."""
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._switch(self)
        self.on_message_complete()

    def on_response_complete(self) -> None:
        """Begin with the next request, or be idle."""
        self.server_state.total_requests += 1
        if self._advancing or self.transport.is_closing():
            return
        self.flow.resume_reading()
        self._idle_since = self.loop.time()
        # What is refused is answered at once, and calls this again: a loop, so that a long row does not nest.
        self._advancing = True
        try:
            while self.pipeline and not self.transport.is_closing():
                cycle, app = self.pipeline.pop()
                self._idle_since = None
                self._start_asgi_task(cycle, app)  # type: ignore[arg-type]
                if not cycle.response_complete:
                    return
                self._idle_since = self.loop.time()
        finally:
            self._advancing = False

    def _unset_keepalive_if_required(self) -> None:
        # uvicorn's timer for each pause between two requests costs more than to look now and then.
        self._idle_since = None

    def _end_if_idle(self) -> None:
        idle = 0.0 if self._idle_since is None else self.loop.time() - self._idle_since
        if idle >= self.timeout_keep_alive:
            self.timeout_keep_alive_handler()
        else:
            self._watch = self.loop.call_later(self.timeout_keep_alive - idle, self._end_if_idle)

    def _switch(self, protocol: asyncio.BaseProtocol) -> None:
        # A transport looks at what its protocol can only when it begins to read.
        self.transport.pause_reading()
        self.transport.set_protocol(protocol)
        self.transport.resume_reading()

    def _start_asgi_task(self, cycle: RequestResponseCycle | Cycle, app: ASGIApp) -> None:  # type: ignore[override]
        if isinstance(cycle, Cycle):
            self._take_turn(cycle)
        else:
            super()._start_asgi_task(cycle, app)  # type: ignore[arg-type]

    def _take_turn(self, cycle: Cycle) -> None:
        self._current = cycle
        if cycle.exchange.refusal is not None:
            self._refuse(cycle)
        elif cycle.complete:
            self._run(cycle)
        elif cycle.wants_continue:
            self.transport.write(CONTINUE)

    def _refuse(self, cycle: Cycle) -> None:
        # Who does not read its answers is not sent more of them, however many it asks for.
        if self.flow.write_paused:
            self._run(cycle)
        elif cycle.exchange.refusal is not None:
            self._answer(cycle, cycle.exchange.refusal)

    def _run(self, cycle: Cycle) -> None:
        cycle.task = self.loop.create_task(self._respond(cycle))
        self.tasks.add(cycle.task)

    async def _respond(self, cycle: Cycle) -> None:
        try:
            if self.flow.write_paused:
                await self._drained(cycle)
            answer = cycle.exchange.refusal or await cycle.exchange.answer()
            if not self.transport.is_closing():
                self._answer(cycle, answer)
        except Exception:
            log.exception("a connection is closed after an error of its own")
            self.transport.close()
        finally:
            self.tasks.discard(cycle.task)

    async def _drained(self, cycle: Cycle) -> None:
        try:
            await self.flow.drain()
        except asyncio.CancelledError:
            cycle.exchange.abandon()
            raise

    def _answer(self, cycle: Cycle, answer: Answer) -> None:
        self._current = None
        cycle.response_complete = True
        self._write(cycle, answer)
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _write(self, cycle: Cycle, answer: Answer) -> None:
        head = self._heads.of(answer.status, self.server_state.default_headers) + _lines(answer.headers)
        if self._heads.closes:
            cycle.keep_alive = False
        elif not cycle.keep_alive:
            head += b"connection: close\r\n"
        pieces = () if cycle.head_only else answer.pieces
        if sum(map(len, pieces)) <= JOINED:
            self.transport.write(b"".join((head, b"\r\n", *pieces)))
        else:
            self.transport.writelines((head, b"\r\n", *pieces))


class Filling(asyncio.BufferedProtocol):
    """A connection while it brings the rest of a large body, from the socket to where it will be used."""

    def __init__(self, protocol: InferProtocol, room: memoryview) -> None:
        self._protocol = protocol
        self._room = room

    def get_buffer(self, _: int) -> memoryview:
        """Return what is still to be filled; no byte of the next request fits in."""
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        """Note what has come."""
        self._room = self._room[nbytes:]
        if not self._room:
            # The transport keeps a hold of this object for as long as it reads.
            self._room = NOTHING
            self._protocol.on_filled()

    def connection_lost(self, exc: Exception | None) -> None:
        """End what goes on for the client."""
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        """Write no more for now."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Write again."""
        self._protocol.resume_writing()


def protocol_factory(endpoint: Endpoint) -> Callable[..., InferProtocol]:
    """Return what uvicorn calls for each connection."""
    heads = ResponseHeads()

    def make(**given: Any) -> InferProtocol:  # noqa: ANN401
        return InferProtocol(endpoint, heads, **given)

    return make


def _lines(headers: Pairs) -> bytes:
    return b"".join([b"%b: %b\r\n" % pair for pair in headers])
