"""OpenTelemetry traces over OTLP/HTTP, where the standard's environment variables name a collector.

Neither SDK nor exporter is imported otherwise. Spans leave in batches from a thread of the SDK's; its queue is bounded
and drops, so that a collector that is slow or gone costs spans and never a request.
"""

import logging
import os
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

Attributes: TypeAlias = Mapping[str, str | int | float]

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
SPOKEN: Final = "http/protobuf"

FLUSH: Final = 2.0
"""Seconds that the last spans have to leave when the server stops."""

log = logging.getLogger(__name__)


class Trace(Protocol):
    """The span of one request; times are of `time.monotonic()`, in seconds."""

    @property
    def trace_id(self) -> str:
        """The trace's id in hex."""

    def child(self, name: str, began: float, ended: float, attributes: Attributes) -> None:
        """Record a step that is over."""

    def end(self, attributes: Attributes, failure: str = "") -> None:
        """Record the end; `failure` is what the server did wrong, empty for nothing."""


class Tracing:
    """Begins the traces of requests."""

    def __init__(self, provider: "TracerProvider", tracer: "Tracer") -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        self._provider = provider
        self._tracer = tracer
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, name: str, attributes: Attributes, headers: Mapping[str, str]) -> Trace:
        """Begin a request's span, in the trace that its `traceparent` names if it has one."""
        from opentelemetry.trace import SpanKind  # noqa: PLC0415

        parent = self._propagator.extract(headers)
        return RequestSpan(self._tracer, self._tracer.start_span(name, parent, SpanKind.SERVER, attributes))

    def close(self) -> None:
        """Send what is left, for `FLUSH` seconds at most."""
        # The SDK would wait half a minute for a collector that does not answer.
        closing = threading.Thread(target=self._provider.shutdown, name="trace-flush", daemon=True)
        closing.start()
        closing.join(FLUSH)


class RequestSpan:
    """A span of the SDK's, and its children."""

    def __init__(self, tracer: "Tracer", span: "Span") -> None:
        self._tracer = tracer
        self._span = span
        # What happens is timed by a clock that never jumps, and a span by the wall's.
        self._epoch = time.time_ns() - time.monotonic_ns()

    @property
    def trace_id(self) -> str:
        """The trace's id in hex."""
        return format(self._span.get_span_context().trace_id, "032x")

    def child(self, name: str, began: float, ended: float, attributes: Attributes) -> None:
        """Record a step that is over."""
        from opentelemetry.trace import set_span_in_context  # noqa: PLC0415

        if self._span.is_recording():
            parent = set_span_in_context(self._span)
            span = self._tracer.start_span(name, parent, attributes=attributes, start_time=self._wall(began))
            span.end(self._wall(ended))

    def end(self, attributes: Attributes, failure: str = "") -> None:
        """Record the end."""
        from opentelemetry.trace import StatusCode  # noqa: PLC0415

        if self._span.is_recording():
            self._span.set_attributes(attributes)
            if failure:
                self._span.set_status(StatusCode.ERROR, failure)
        self._span.end()

    def _wall(self, moment: float) -> int:
        return self._epoch + int(moment * 1e9)


def from_environment(version: str, instance: str, environ: Mapping[str, str] = os.environ) -> Tracing | None:
    """Return the tracing that the environment asks for, or None."""
    if not wanted(environ):
        return None
    return _tracing({"service.name": "onceserve", "service.version": version, "service.instance.id": instance})


def wanted(environ: Mapping[str, str]) -> bool:
    """Tell whether the environment names a collector that can be spoken to."""
    off = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if off or environ.get("OTEL_TRACES_EXPORTER", "otlp").strip() == "none":
        return False
    if not any(environ.get(name) for name in ENDPOINTS):
        return False
    protocol = next((environ[name] for name in PROTOCOLS if environ.get(name)), SPOKEN)
    if protocol != SPOKEN:
        log.warning("no traces are sent: OTEL_EXPORTER_OTLP_PROTOCOL asks for %r, spoken is %r", protocol, SPOKEN)
    return protocol == SPOKEN


def _tracing(defaults: Mapping[str, str]) -> Tracing:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = TracerProvider(resource=_resource(defaults), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider, provider.get_tracer("onceserve", defaults["service.version"]))


def _resource(defaults: Mapping[str, str]) -> "Resource":
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415

    given = OTELResourceDetector().detect()
    return Resource.create(Resource(dict(defaults)).merge(given).attributes)
