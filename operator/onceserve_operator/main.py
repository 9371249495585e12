"""The operator process: the only place where its parts are put together."""

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from functools import partial
from typing import NoReturn
from uuid import uuid4

from prometheus_client import start_http_server
from pydantic import ValidationError

from onceserve_operator import health, telemetry
from onceserve_operator.election import Terms
from onceserve_operator.errors import NoClusterError, SettingError, StoppedError
from onceserve_operator.health import Health
from onceserve_operator.kube.client import Client
from onceserve_operator.kube.connection import Connection, connect
from onceserve_operator.kube.lease import Lease
from onceserve_operator.leadership import Leadership
from onceserve_operator.leading import Leading
from onceserve_operator.settings import Settings
from onceserve_operator.telemetry import Metrics

_LOG = logging.getLogger("onceserve_operator")

FAILED, UNUSABLE, LOST = 1, 2, 3
"""Exit codes: a part of the operator has failed; settings or cluster are of no use; leadership was lost."""

_NESTING = 12_000
"""Levels that an answer may be nested: an API server lets in objects of 10,000."""
_STACK = 64 * 2**20
"""Bytes that the main thread's stack may grow to: enough for as many calls in one another, whatever they are. The
kernel keeps 128 MiB free for it."""

_ALLOCATIONS = 50_000
"""Objects that are made, more than are freed, between two looks for cycles."""
_LEASE_SECONDS = 30.0
"""Seconds after which an attempt at the lease, all of whose calls have timeouts, is taken to be stuck."""


def main() -> None:
    """Run the operator until SIGTERM."""
    try:
        settings = Settings()
    except ValidationError as error:
        for fault in error.errors():
            name = "_".join(map(str, fault["loc"])).upper()
            print(f"ONCESERVE_OPERATOR_{name}: {fault['msg']}", file=sys.stderr)  # noqa: T201 - before logging exists
        sys.exit(UNUSABLE)
    telemetry.configure_logging(settings.log_level)
    # What is read from the API server has no cycles, and looking for them took most of the time of reading.
    gc.set_threshold(_ALLOCATIONS, 10, 100)
    allow_nesting()
    try:
        asyncio.run(run(settings))
    except (NoClusterError, SettingError) as error:
        _LOG.error("%s", error)
        sys.exit(UNUSABLE)
    except Exception as error:
        _LOG.exception("the process ends, since %s", "; ".join(_words(error)))
        sys.exit(FAILED)


def allow_nesting() -> None:
    """Have whatever an API server lets in be read; calls that never end still end by an error, not with the process."""
    _, most = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (_STACK if most == resource.RLIM_INFINITY else min(_STACK, most), most))
    sys.setrecursionlimit(_NESTING)


def _words(error: Exception) -> Iterator[str]:
    """Yield what has failed, each in words."""
    if isinstance(error, ExceptionGroup):
        for each in error.exceptions:
            yield from _words(each)
    else:
        yield str(error) if isinstance(error, StoppedError) else f"{type(error).__name__}: {error}"


async def run(settings: Settings) -> None:
    """Stand by, lead, and leave the lease to another when the process is told to stop."""
    secret = settings.verification_secret()
    metrics, state = Metrics(), Health()
    with _served(settings, metrics, state):
        operation = asyncio.create_task(
            _operate(settings, secret, metrics, state, lambda: _on_end(operation)), name="operation"
        )
        _on_end(operation)
        with suppress(asyncio.CancelledError):
            await operation
        # What is left of kopf's watches is closed with the loop, and they take offence at it.
        asyncio.get_running_loop().set_exception_handler(lambda _, context: _LOG.debug("%s", context["message"]))


async def _operate(
    settings: Settings, secret: bytes, metrics: Metrics, state: Health, take_signals: Callable[[], None]
) -> None:
    identity, terms = f"{socket.gethostname()}_{uuid4().hex[:8]}", Terms()
    agent = f"onceserve-operator ({identity})"
    async with (
        connect(timeout=terms.patience, user_agent=agent) as aside,
        # Writes ask at the last moment.
        connect(timeout=settings.request_timeout, user_agent=agent, before_write=lambda: leadership.tenure()) as api,  # noqa: PLW0108
    ):
        for connection in (aside, api):
            _observe(connection, metrics)
        lease = Lease(aside, settings.lease_namespace, settings.lease_name, duration=terms.duration)
        leadership = Leadership(lease, identity, terms, on_attempt=partial(_attempted, state), on_loss=_lose)
        leading = Leading(settings, Client(api, tenure=leadership.tenure), metrics, state, secret)
        await _lead(leadership, leading, metrics, state, take_signals)


async def _lead(
    leadership: Leadership, leading: Leading, metrics: Metrics, state: Health, take_signals: Callable[[], None]
) -> None:
    # One that ends by an error takes the others with it: half an operator would look alive.
    async with asyncio.TaskGroup() as group, AsyncExitStack() as ends:
        ends.push_async_callback(leadership.release)
        await leadership.campaign()
        metrics.leader.set(1)
        state.lacks("listing", "the first listing is under way")
        ends.callback(group.create_task(leadership.hold(), name="lease").cancel)
        ends.push_async_callback(leading.stop)
        await leading.list_first()
        await leading.catch_up()
        group.create_task(_unending("the watch", leading.watch(take_signals)), name="watch")
        group.create_task(_unending("the resync", leading.resync()), name="resync")
        state.lacks("listing", None)
        await asyncio.Event().wait()


async def _unending(what: str, part: Awaitable[None]) -> NoReturn:
    """Await a part that must go on until it is cancelled. Raises StoppedError where it does not."""
    try:
        await part
    except Exception as error:
        raise StoppedError(f"{what} has failed: {type(error).__name__}: {error}") from error
    raise StoppedError(f"{what} has ended")


def _observe(connection: Connection, metrics: Metrics) -> None:
    connection.on_call = lambda verb, kind: metrics.api_requests.labels(verb, kind.kind).inc()
    connection.on_answer = metrics.answered


def _attempted(state: Health, problem: str | None) -> None:
    state.expect("the lease", _LEASE_SECONDS)
    state.lacks("lease", problem)


def _lose(words: str) -> NoReturn:
    """End at once: what goes on here must not write any more."""
    _LOG.error("the process ends, since %s", words)
    os._exit(LOST)


def _on_end(operation: asyncio.Task[None]) -> None:
    """Have the signals that end processes end the operation in good order."""

    def end() -> None:
        # Once: a second time would break off what puts things in order.
        if not operation.cancelling():
            operation.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end)


@contextmanager
def _served(settings: Settings, metrics: Metrics, state: Health) -> Iterator[None]:
    """Answer scrapes and probes for the duration of a block."""
    _attempted(state, "the lease has not been read yet")
    scrapes, _ = start_http_server(settings.metrics_port, registry=metrics.registry)
    probes = health.serve(state, settings.health_port)
    _LOG.info("metrics on port %d, probes on port %d", scrapes.server_port, probes.server_port)
    try:
        yield
    finally:
        for server in (scrapes, probes):
            server.shutdown()
            server.server_close()


if __name__ == "__main__":
    main()
