"""kopf's part: it watches, we are told."""

import asyncio
from collections.abc import Callable
from typing import Any

import kopf

from onceserve_operator.domain import Manifest
from onceserve_operator.kube import kinds
from onceserve_operator.kube.kinds import Kind

Listener = Callable[[Manifest, str | None], None]
"""Called with an object and what happened to it, as watches have it; None: it is there, no more is known."""

DELETED = "DELETED"


class _NoDiffs(kopf.DiffBaseStorage):
    """Compares nothing: for handlers that we do not have, kopf would copy every object of every event."""

    def build(self, **_: object) -> kopf.BodyEssence:
        """Find nothing worth comparing."""
        return kopf.BodyEssence()

    def fetch(self, **_: object) -> None:
        """Know nothing of what was."""

    def store(self, **_: object) -> None:
        """Keep nothing: people's objects stay as they are."""


async def watch(
    listener: Listener, *, namespaces: tuple[str, ...], request_timeout: float, on_start: Callable[[], None]
) -> None:
    """Watch all kinds that concern us, in these namespaces or in all, until cancelled.

    `on_start` is called when kopf has put its own handlers on the signals that end processes: to take them back.
    """
    registry, settings = _registered(listener, request_timeout=request_timeout)
    ours = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(
        registry=registry, settings=settings, clusterwide=not namespaces, namespaces=namespaces
    )
    on_start()
    await kopf.run_tasks(tasks, ignored=ours)


def _registered(listener: Listener, *, request_timeout: float) -> tuple[kopf.OperatorRegistry, kopf.OperatorSettings]:
    # Only event handlers: timers, daemons and change handlers would put finalizers or annotations on people's objects.
    registry = kopf.OperatorRegistry()
    settings = _settings(request_timeout)
    kopf.on.login(registry=registry)(_login)
    for kind in kinds.WATCHED:
        _watch(kind, registry, settings, listener)
    return registry, settings


def _watch(kind: Kind, registry: kopf.OperatorRegistry, settings: kopf.OperatorSettings, listener: Listener) -> None:
    selector = kinds.selector(kind)
    if selector:
        settings.watching.label_selectors[kind.group, kind.version, kind.plural] = selector

    @kopf.on.event(kind.group, kind.version, kind.plural, registry=registry)
    # A coroutine, since kopf runs plain functions in threads.
    async def changed(type: str | None, body: kopf.Body, **_: object) -> None:  # noqa: A002 - kopf's name
        # Events carry the kind in the body, listings do not.
        manifest = {"apiVersion": kind.api_version, "kind": kind.kind, **body}
        listener(manifest, type)


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:  # noqa: ANN401 - kopf's keywords, passed on
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)


def _settings(request_timeout: float) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = _NoDiffs()
    # The kinds are known, and namespaces are given: no right to look at those of the whole cluster is needed.
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.networking.request_timeout = request_timeout
    # By default a watch may be silent forever, and a half-open connection would go unnoticed.
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.inactivity_timeout = 90
    # By default listings come in one piece, and for 5 s kopf holds on to the last event of each object.
    settings.watching.chunk_size = 250
    settings.queueing.idle_timeout = 0.5
    return settings
