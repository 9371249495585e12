"""The composition root: wires the server together and takes it through its life."""

import asyncio
import gc
import logging
import os
import socket
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

import uvloop

from onceserve_contract.termination import Failure
from onceserve_serving import edge, front
from onceserve_serving.admission import Capacity
from onceserve_serving.api.open_inference import InferEndpoint
from onceserve_serving.api.verification import Verification
from onceserve_serving.batching.flush import Limits
from onceserve_serving.catalog import Catalog
from onceserve_serving.errors import InvalidSettingsError, ModelUnavailableError
from onceserve_serving.fatal import EXIT_MODEL, report
from onceserve_serving.health import Health
from onceserve_serving.http_server import HttpServer
from onceserve_serving.idempotency import answers
from onceserve_serving.lifecycle import Lifecycle, Phase
from onceserve_serving.listener import listen
from onceserve_serving.loading import Loader
from onceserve_serving.pipeline import Pipeline
from onceserve_serving.repository import Repository
from onceserve_serving.served import Terms
from onceserve_serving.settings import Settings, termination_log
from onceserve_serving.stop import StopSignals
from onceserve_serving.telemetry import Telemetry

if TYPE_CHECKING:
    from onceserve_serving.api.grpc.server import GrpcServer

log = logging.getLogger(__name__)

GC_THRESHOLD: Final = 5000
"""Objects that come to be, less those that go, before the collector looks through the youngest."""


class Service:
    """One server process: its parts, and the steps of its life."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        self._lifecycle = Lifecycle()
        self._telemetry = Telemetry()
        self._edge = edge.from_settings(settings, self._telemetry.reloaded)
        self.loader = Loader(settings, self._telemetry)
        self._catalog = Catalog(settings)
        terms = _terms(settings, self._telemetry)
        self._repository = Repository(
            self.loader.load,
            self._catalog.sources,
            terms,
            control=settings.allow_model_control or settings.repository is not None,
        )
        self._telemetry.watch_queue(self._repository.queued)
        self._telemetry.watch_aside(self._repository.aside)
        for name in self._catalog.at_start():
            self._repository.expect(name)
        self._health = Health(
            self._repository,
            self._lifecycle,
            inference_deadline=settings.inference_deadline,
            smoke_deadline=settings.smoke_deadline,
        )
        self._answers = answers.from_settings(settings, terms.capacity, self._telemetry)
        guard = None if self._answers is None else self._answers.guard
        self._pipeline = pipeline = Pipeline(timeout=settings.timeout, guard=guard)
        self._grpc = self._grpc_server(pipeline)
        verification = Verification(
            self._repository,
            settings.verification_key,
            max_body_bytes=settings.max_body_bytes,
            patience=settings.inference_deadline,
        )
        self._server = HttpServer(
            front.create_server(self._repository, self._health, self._telemetry, verification, edge=self._edge),
            InferEndpoint(self._repository, pipeline, self._telemetry, settings.max_body_bytes, edge=self._edge),
            settings,
            self._edge.http_tls,
        )

    def _grpc_server(self, pipeline: Pipeline) -> "GrpcServer | None":
        if self._settings.grpc_port == "off":
            return None
        from onceserve_serving.api.grpc.server import GrpcServer  # noqa: PLC0415

        return GrpcServer(
            repository=self._repository,
            pipeline=pipeline,
            health=self._health,
            telemetry=self._telemetry,
            settings=self._settings,
            edge=self._edge,
        )

    async def run(self) -> int:
        """Serve until a signal; return the exit code."""
        with StopSignals().handled() as stop:
            port = self._listener.getsockname()[1]
            log.info("listening on port %d, loading the model", port, extra={"port": port})
            if self._grpc is not None:
                await self._grpc.start()
                log.info("gRPC listens on port %d", self._grpc.port, extra={"grpc_port": self._grpc.port})
            serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
            try:
                if self._answers is not None:
                    await self._answers.open()
                await self._serve_until(stop, serving)
                await self._drain(stop)
            except ModelUnavailableError as error:
                report(Failure(error.reason, str(error)), termination_log(self._settings.termination_log))
                return EXIT_MODEL
            finally:
                await self._end(stop, serving)
        return 0

    async def _serve_until(self, stop: StopSignals, serving: asyncio.Task[None]) -> None:
        loading = asyncio.create_task(self._load())
        stopping = asyncio.create_task(stop.drain.wait())
        await asyncio.wait({loading, stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()
            await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
        loading.cancel()
        stopping.cancel()

    async def _load(self) -> None:
        self._lifecycle.advance(Phase.LOADING)
        for name in self._repository.names():
            await self._repository.load(name)
        # What is there now stays: the collector need not look through it again, which would hold up requests.
        gc.freeze()
        # Requests make few cycles: at the default of 700 the collector takes up to an eighth of one with a key.
        gc.set_threshold(GC_THRESHOLD)
        self._lifecycle.advance(Phase.READY)
        scheme = "https" if self._edge.tls else "http"
        log.info("ready at %s://localhost:%d/", scheme, self._listener.getsockname()[1])

    async def _drain(self, stop: StopSignals) -> None:
        was_ready = self._lifecycle.phase is Phase.READY
        self._lifecycle.advance(Phase.DRAINING)
        self._telemetry.draining()
        self._server.announce_close()
        if self._grpc is not None:
            self._grpc.announce_drain()
        # Nothing sends traffic to a server that was never ready.
        if was_ready:
            await _first(self._settings.drain_delay, stop.now.wait())

    async def _end(self, stop: StopSignals, serving: asyncio.Task[None]) -> None:
        cut_at = time.monotonic() + self._settings.drain_timeout
        self._server.should_exit = True
        leaving = None if self._grpc is None else asyncio.create_task(self._grpc.stop(stop.now))
        forcing = asyncio.create_task(stop.now.wait())
        await asyncio.wait({forcing, serving}, return_when=asyncio.FIRST_COMPLETED)
        if forcing.done():
            self._server.force()
        forcing.cancel()
        await serving
        if leaving is not None:
            await leaving
        if self._answers is not None:
            # Who left may have left a request behind, whose retry will want the answer.
            await _first(max(cut_at - time.monotonic(), 0.0), self._pipeline.settled(), stop.now.wait())
            await self._answers.close()
        await asyncio.to_thread(self._edge.close)
        self._lifecycle.advance(Phase.STOPPED)
        log.info("stopped", extra={"inflight": self._telemetry.inflight.count})


def run(settings: Settings) -> int:
    """Serve a model until a signal, and return the exit code.

    Raises InvalidSettingsError if the address cannot be listened on.
    """
    with _listen(settings) as listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        service, code = runner.run(_serve(settings, listener))
    if service.loader.busy:
        # onnxruntime is torn down at interpreter exit, under the feet of a run that never ended.
        logging.shutdown()
        os._exit(code)
    return code


async def _serve(settings: Settings, listener: socket.socket) -> tuple[Service, int]:
    service = Service(settings, listener)
    return service, await service.run()


def _terms(settings: Settings, telemetry: Telemetry) -> Terms:
    return Terms(
        telemetry,
        Limits(settings.max_batch_size, settings.max_delay),
        Capacity(settings.max_concurrency, settings.max_queue, settings.max_queue_bytes),
    )


def _listen(settings: Settings) -> socket.socket:
    try:
        return listen(settings.host, settings.port)
    except OSError as error:
        where = f"{settings.host or 'all addresses'} port {settings.port}"
        raise InvalidSettingsError(f"--port (or ONCESERVE_PORT): cannot listen on {where}: {error.strerror}") from error


async def _first(seconds: float, *awaited: Coroutine[Any, Any, Any]) -> None:
    """Return when one of them has ended, or the time is over."""
    tasks = [asyncio.ensure_future(one) for one in awaited]
    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
