"""What both protocols share at their edge: who may call, by which certificate, and what is told of a call."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

from onceserve_serving import __version__, tls, tracing
from onceserve_serving.auth.gate import Gate
from onceserve_serving.idempotency import keys
from onceserve_serving.idempotency.keys import Keys
from onceserve_serving.observation import Observer
from onceserve_serving.settings import Settings
from onceserve_serving.tls import Tls
from onceserve_serving.tracing import Tracing
from onceserve_serving.watch import Reloaded, Watched, Watcher


@dataclass(frozen=True, slots=True)
class Edge:
    """By default anybody may call, in the clear, and nothing is told but failures."""

    observer: Observer = field(default_factory=Observer)
    gate: Gate | None = None
    tls: Tls | None = None
    watcher: Watcher | None = None
    tracing: Tracing | None = None
    keys: Keys = field(default_factory=Keys)

    @property
    def http_tls(self) -> ssl.SSLContext | None:
        """Return what secures the HTTP port, or None for nothing."""
        return None if self.tls is None else self.tls.http_context()

    def tenant(self, headers: Mapping[bytes, bytes]) -> str:
        """Return whose call this is, empty where anybody may call; raises UnauthenticatedError."""
        return "" if self.gate is None else self.gate.tenant(headers)

    def close(self) -> None:
        """Watch no more files and send the last spans, for two seconds at most."""
        if self.watcher is not None:
            self.watcher.stop()
        if self.tracing is not None:
            self.tracing.close()


def from_settings(settings: Settings, reloaded: Reloaded) -> Edge:
    """Return the edge that the settings ask for, its files watched; raises InvalidSettingsError.

    `reloaded` is called, in another thread, with what was read again and the result.
    """
    secured = tls.from_settings(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
    gate = None if settings.api_keys is None else Gate(settings.api_keys)
    traces = tracing.from_environment(__version__, settings.pod_name)
    watched: list[Watched] = [source for source in (gate, secured) if source is not None]
    watcher = Watcher(watched, reloaded)
    watcher.start()
    taken = keys.make(
        mode=settings.idempotency_mode,
        store=settings.idempotency_store,
        scope=settings.idempotency_scope,
        on_conflict=settings.idempotency_on_conflict,
        secret=settings.idempotency_secret,
    )
    return Edge(Observer(traces, access_log=settings.access_log), gate, secured, watcher, traces, taken)
