"""What the process does while it leads: watch, reconcile, resync."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain, repeat

from onceserve_operator import handlers
from onceserve_operator.autoscaling.autoscaler import Autoscaler
from onceserve_operator.backoff import backoff
from onceserve_operator.domain import Key, Manifest
from onceserve_operator.errors import ApiRefusedError, ApiUnavailableError, NotFoundError
from onceserve_operator.health import Health
from onceserve_operator.inspection.inspector import Inspector
from onceserve_operator.kube import kinds
from onceserve_operator.kube.cache import Cache
from onceserve_operator.kube.client import Client
from onceserve_operator.plan import Defaults
from onceserve_operator.reconciler import Reconciler
from onceserve_operator.rollout.phases import ACTIVE, Phase
from onceserve_operator.settings import Settings
from onceserve_operator.telemetry import Metrics
from onceserve_operator.workqueue import WorkQueue

_LOG = logging.getLogger(__name__)

_PASS_SECONDS, _LISTING_SECONDS = 300.0, 300.0
"""Seconds after which a pass and a full listing, all of whose calls have timeouts, are taken to be stuck."""
_CATCHING_UP_SECONDS = 5.0
"""Seconds that watches wait at most for the first passes: some may meet what is slow."""
_WATCHING_SECONDS = 5.0
"""Seconds after which watches have begun."""


class Leading:
    """All that a leader does. Nothing that it knows was learnt before it led."""

    def __init__(self, settings: Settings, client: Client, metrics: Metrics, health: Health, secret: bytes) -> None:
        self._settings = settings
        self._client = client
        self._metrics = metrics
        self._health = health
        self._cache = Cache()
        self._inspector = Inspector(secret, self._look_soon)
        self._autoscaler = Autoscaler(self._look_soon)
        self._reconciler = Reconciler(
            client,
            self._cache,
            self._inspector,
            self._autoscaler,
            metrics,
            defaults=Defaults(settings.server_image, secret),
            clock=lambda: datetime.now(UTC),
        )
        self._queue = WorkQueue(self._measured, concurrency=settings.concurrency)
        self._unseen: set[Key] = set()
        self._caught_up = asyncio.Event()

    async def list_first(self) -> None:
        """Fill the cache before the first pass, so that no pass takes what it has not seen yet for absent."""
        began = time.monotonic()
        for delay in backoff():
            try:
                with self._health.ends("the first listing", _LISTING_SECONDS):
                    await self._list_all()
            except (ApiUnavailableError, ApiRefusedError) as error:
                _LOG.warning("waiting for the API server: %s", error)
                await asyncio.sleep(delay)
            else:
                count, seconds = len(self._cache.keys()), time.monotonic() - began
                _LOG.info("listed %d ModelDeployments and their objects in %.1f s", count, seconds)
                return

    async def catch_up(self) -> None:
        """Look at everything; return when what the former leader left has been looked at, or takes too long.

        Watches begin with a flood of what is known already, in which this would drown.
        """
        self._unseen = {key for key in self._cache.keys() if not self._is_followed(key)}  # noqa: SIM118 - not a dict
        for key in self._cache.keys():  # noqa: SIM118 - not a dict
            self._queue.add(key, changed=key in self._unseen)
        if self._unseen:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CATCHING_UP_SECONDS):
                    await self._caught_up.wait()

    async def watch(self, on_start: Callable[[], None]) -> None:
        """Ask for a pass whenever something changes; `on_start` as in handlers."""
        settings = self._settings
        await handlers.watch(
            self._changed,
            namespaces=settings.namespaces,
            request_timeout=settings.request_timeout,
            on_start=on_start,
        )

    async def resync(self) -> None:
        """Ask for a pass over everything now and then, by a new listing each time.

        The first comes soon: what was deleted between the first listing and the watches, these do not tell.
        """
        usual = self._settings.resync
        for pause in chain([min(_WATCHING_SECONDS, usual)], repeat(usual)):
            self._health.expect("the resync", pause + _LISTING_SECONDS)
            await asyncio.sleep(pause)
            try:
                await self._list_all()
                self._metrics.resyncs.labels("success").inc()
            except (ApiUnavailableError, ApiRefusedError) as error:
                self._metrics.resyncs.labels("error").inc()
                _LOG.warning("the resync failed and will be tried again: %s", error)
            for key in self._cache.keys():  # noqa: SIM118 - not a dict
                self._queue.add(key, changed=False)

    async def stop(self) -> None:
        """End all passes and questions, and return when nothing that was written is on its way."""
        await self._queue.stop()
        await self._inspector.stop()
        await self._autoscaler.stop()
        await self._client.settle()

    def _look_soon(self, key: Key) -> None:
        # What pods tell mends no failure: the next try need not come sooner.
        self._queue.add(key, changed=False, urgent=True)

    def _is_followed(self, key: Key) -> bool:
        """Say whether the status is about the spec as it is now, and no rollout is under way."""
        resource = self._cache.get(kinds.MODEL_DEPLOYMENT, key.namespace, key.name) or {"metadata": {}}
        status = resource.get("status", {})
        is_current = status.get("observedGeneration") == resource["metadata"].get("generation")
        return bool(is_current and status.get("rollout", {}).get("phase") not in {*ACTIVE, Phase.ABORTING})

    def _changed(self, manifest: Manifest, happened: str | None) -> None:
        if happened is None and self._knows(manifest):
            return
        if happened == handlers.DELETED:
            self._cache.drop(manifest)
        else:
            self._cache.put(manifest)
        if key := kinds.owner(kinds.of(manifest), manifest):
            self._queue.add(key)

    def _knows(self, manifest: Manifest) -> bool:
        metadata = manifest["metadata"]
        known = self._cache.get(kinds.of(manifest), metadata["namespace"], metadata["name"])
        return bool(known and known["metadata"]["resourceVersion"] == metadata["resourceVersion"])

    async def _measured(self, key: Key) -> float | None:
        with self._metrics.reconcile_duration.time(), self._health.ends(f"the pass of {key}", _PASS_SECONDS):
            try:
                due = await self._reconciler.reconcile(key)
            except Exception:
                self._metrics.reconciles.labels("error").inc()
                raise
            finally:
                self._saw(key)
        self._metrics.reconciles.labels("success").inc()
        return due

    def _saw(self, key: Key) -> None:
        self._unseen.discard(key)
        if not self._unseen:
            self._caught_up.set()

    async def _list_all(self) -> None:
        for kind in kinds.LISTED:
            try:
                listings = [await self._client.list(kind, scope) for scope in self._settings.namespaces or (None,)]
            except NotFoundError:
                if kind not in kinds.OPTIONAL:
                    raise
                self._cache.withdraw(kind)
                continue
            found = [manifest for manifests, _ in listings for manifest in manifests]
            await self._cache.replace(kind, found, min(version for _, version in listings))
