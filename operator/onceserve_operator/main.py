"""The operator process: the only place where its parts are put together."""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial

import kopf
from prometheus_client import start_http_server
from pydantic import ValidationError

from onceserve_operator import handlers, telemetry
from onceserve_operator.domain import Key, Manifest
from onceserve_operator.errors import ApiRefusedError, ApiUnavailableError, NoClusterError, NotFoundError, SettingError
from onceserve_operator.inspection.inspector import Inspector
from onceserve_operator.kube import kinds
from onceserve_operator.kube.cache import Cache
from onceserve_operator.kube.client import Client, connect
from onceserve_operator.plan import Defaults
from onceserve_operator.reconciler import Reconciler
from onceserve_operator.settings import Settings
from onceserve_operator.telemetry import Metrics
from onceserve_operator.workqueue import WorkQueue, backoff

_LOG = logging.getLogger("onceserve_operator")

Listing = Callable[[], Awaitable[None]]
"""Lists everything anew into the cache."""


def main() -> None:
    """Run the operator until SIGTERM."""
    try:
        settings = Settings()
    except ValidationError as error:
        for fault in error.errors():
            name = "_".join(map(str, fault["loc"])).upper()
            print(f"ONCESERVE_OPERATOR_{name}: {fault['msg']}", file=sys.stderr)  # noqa: T201 - before logging exists
        sys.exit(2)
    telemetry.configure_logging(settings.log_level)
    try:
        asyncio.run(run(settings))
    except (NoClusterError, SettingError) as error:
        _LOG.error("%s", error)
        sys.exit(2)


async def run(settings: Settings) -> None:
    """Watch, reconcile and resync until the process is told to stop."""
    secret = settings.verification_secret()
    metrics = Metrics()
    server, _ = start_http_server(settings.metrics_port, registry=metrics.registry)
    _LOG.info("metrics on port %d", server.server_port)
    cache = Cache()
    async with connect(timeout=settings.request_timeout) as client:
        client.on_call = lambda verb, kind: metrics.api_requests.labels(verb, kind.kind).inc()
        inspector = Inspector(secret, lambda key: queue.add(key))  # noqa: PLW0108 - made later
        defaults = Defaults(settings.server_image, secret)
        reconciler = Reconciler(client, cache, inspector, metrics, defaults=defaults, clock=lambda: datetime.now(UTC))
        queue = WorkQueue(partial(_measured, reconciler, metrics), concurrency=settings.concurrency)
        listing = partial(_list_all, client, cache, settings.namespaces or (None,))
        await _first(listing)
        try:
            # One that ends by an error takes the other with it: half an operator would look alive.
            async with asyncio.TaskGroup() as group:
                resync = group.create_task(_resync(listing, cache, queue, metrics, settings.resync), name="resync")
                await _watch(settings, partial(_changed, cache, queue))
                resync.cancel()
        finally:
            await queue.stop()
            await inspector.stop()
            server.shutdown()
            server.server_close()


async def _watch(settings: Settings, listener: handlers.Listener) -> None:
    registry, kopf_settings = handlers.register(listener, request_timeout=settings.request_timeout)
    await kopf.operator(
        registry=registry,
        settings=kopf_settings,
        clusterwide=not settings.namespaces,
        namespaces=settings.namespaces,
        liveness_endpoint=f"http://0.0.0.0:{settings.health_port}/healthz",
    )


def _changed(cache: Cache, queue: WorkQueue, manifest: Manifest, deleted: bool) -> None:  # noqa: FBT001 - a Listener
    if deleted:
        cache.drop(manifest)
    else:
        cache.put(manifest)
    if key := kinds.owner(kinds.of(manifest), manifest):
        queue.add(key)


async def _measured(reconciler: Reconciler, metrics: Metrics, key: Key) -> float | None:
    with metrics.reconcile_duration.time():
        try:
            due = await reconciler.reconcile(key)
        except Exception:
            metrics.reconciles.labels("error").inc()
            raise
    metrics.reconciles.labels("success").inc()
    return due


async def _list_all(client: Client, cache: Cache, scopes: tuple[str | None, ...]) -> None:
    for kind in kinds.LISTED:
        try:
            listings = [await client.list(kind, scope) for scope in scopes]
        except NotFoundError:
            if kind not in kinds.OPTIONAL:
                raise
            cache.withdraw(kind)
            continue
        found = [manifest for manifests, _ in listings for manifest in manifests]
        cache.replace(kind, found, min(version for _, version in listings))


async def _first(listing: Listing) -> None:
    """Fill the cache before the first pass, so that no pass takes what it has not seen yet for absent."""
    for delay in backoff():
        try:
            await listing()
        except (ApiUnavailableError, ApiRefusedError) as error:
            _LOG.warning("waiting for the API server: %s", error)
            await asyncio.sleep(delay)
        else:
            return


async def _resync(listing: Listing, cache: Cache, queue: WorkQueue, metrics: Metrics, seconds: float) -> None:
    while True:
        for key in cache.keys():  # noqa: SIM118 - not a dict
            queue.add(key)
        await asyncio.sleep(seconds)
        try:
            await listing()
            metrics.resyncs.labels("success").inc()
        except (ApiUnavailableError, ApiRefusedError) as error:
            metrics.resyncs.labels("error").inc()
            _LOG.warning("the resync failed and will be tried again: %s", error)


if __name__ == "__main__":
    main()
