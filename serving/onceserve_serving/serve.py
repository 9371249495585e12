"""The composition root: wires the server together and takes it through its life."""

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Coroutine
from typing import Any

from onceserve_contract.termination import Failure
from onceserve_serving import app, model_source
from onceserve_serving.engine import ort
from onceserve_serving.engine.runner import Runner, warm_up
from onceserve_serving.engine.thread import InferenceThread
from onceserve_serving.errors import InvalidSettingsError, ModelUnavailableError
from onceserve_serving.fatal import EXIT_MODEL, report
from onceserve_serving.health import Health
from onceserve_serving.http_server import HttpServer
from onceserve_serving.lifecycle import Lifecycle, Phase
from onceserve_serving.listener import listen
from onceserve_serving.served import ServedModel
from onceserve_serving.settings import Settings, termination_log
from onceserve_serving.stop import StopSignals
from onceserve_serving.telemetry import Telemetry

log = logging.getLogger(__name__)


class Service:
    """One server process: its parts, and the steps of its life."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        self.thread = InferenceThread()
        self._lifecycle = Lifecycle()
        self._telemetry = Telemetry()
        self._model = ServedModel(settings.served_name, settings.model_version, self._lifecycle)
        self._health = Health(
            self._model,
            self.thread,
            inference_deadline=settings.inference_deadline,
            smoke_deadline=settings.smoke_deadline,
        )
        self._server = HttpServer(
            app.create_server(self._model, self._health, self._telemetry, settings.max_body_bytes), settings
        )

    async def run(self) -> int:
        """Serve until a signal; return the exit code."""
        with StopSignals().handled() as stop:
            port = self._listener.getsockname()[1]
            log.info("listening on port %d, loading the model", port, extra={"port": port})
            serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
            try:
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
        started = time.monotonic()
        self._lifecycle.advance(Phase.LOADING)
        settings = self._settings
        runner, sha256 = await self.thread.call(lambda: load(settings, self.thread))
        seconds = time.monotonic() - started
        self._model.install(runner)
        self._telemetry.loaded(self._model.name, self._model.version, sha256, seconds)
        self._lifecycle.advance(Phase.READY)
        facts = {"model": self._model.name, "version": self._model.version, "sha256": sha256, "seconds": seconds}
        log.info("ready at http://localhost:%d/", self._listener.getsockname()[1], extra=facts)

    async def _drain(self, stop: StopSignals) -> None:
        was_ready = self._lifecycle.phase is Phase.READY
        self._lifecycle.advance(Phase.DRAINING)
        self._telemetry.draining()
        self._server.announce_close()
        # Nothing sends traffic to a server that was never ready.
        if was_ready:
            await _within(self._settings.drain_delay, stop.now.wait())

    async def _end(self, stop: StopSignals, serving: asyncio.Task[None]) -> None:
        self._server.should_exit = True
        forcing = asyncio.create_task(stop.now.wait())
        await asyncio.wait({forcing, serving}, return_when=asyncio.FIRST_COMPLETED)
        if forcing.done():
            self._server.force()
        forcing.cancel()
        await serving
        self._lifecycle.advance(Phase.STOPPED)
        log.info("stopped", extra={"inflight": self._telemetry.inflight.count})


def run(settings: Settings) -> int:
    """Serve a model until a signal, and return the exit code.

    Raises InvalidSettingsError if the address cannot be listened on.
    """
    with _listen(settings) as listener:
        service, code = asyncio.run(_serve(settings, listener))
    if service.thread.busy:
        # onnxruntime is torn down at interpreter exit, under the feet of a run that never ended.
        logging.shutdown()
        os._exit(code)
    return code


async def _serve(settings: Settings, listener: socket.socket) -> tuple[Service, int]:
    service = Service(settings, listener)
    return service, await service.run()


def load(settings: Settings, thread: InferenceThread) -> tuple[Runner, str]:
    """Fetch, verify, load and warm up the model; return what runs it and its SHA-256. Raises ModelUnavailableError."""
    model = model_source.fetch(settings.model_uri, sha256=settings.model_sha256, max_bytes=settings.max_model_bytes)
    engine = ort.load(model.content, settings.threads)
    return Runner(engine, thread, warm_up(engine)), model.sha256


def _listen(settings: Settings) -> socket.socket:
    try:
        return listen(settings.host, settings.port)
    except OSError as error:
        where = f"{settings.host or 'all addresses'} port {settings.port}"
        raise InvalidSettingsError(f"--port (or ONCESERVE_PORT): cannot listen on {where}: {error.strerror}") from error


async def _within(seconds: float, awaited: Coroutine[Any, Any, Any]) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(awaited, seconds)
