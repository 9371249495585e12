"""A real OTLP/HTTP collector on loopback, for traces."""

import gzip
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.loopback import LoopbackServer


class Collector(LoopbackServer):
    """Keeps the spans that it is sent."""

    def __init__(self) -> None:
        super().__init__(Handler)
        self.spans: list[Span] = []
        self.resources: list[dict[str, Any]] = []
        self._changed = threading.Condition()

    def take(self, request: ExportTraceServiceRequest) -> None:
        """Keep what one request brought."""
        with self._changed:
            for sent in request.resource_spans:
                self.resources.append(values(sent.resource.attributes))
                self.spans += [span for scope in sent.scope_spans for span in scope.spans]
            self._changed.notify_all()

    def await_spans(self, wanted: Callable[[list[Span]], bool], seconds: float = 20) -> list[Span]:
        """Return the spans once they are what is wanted."""
        with self._changed:
            assert self._changed.wait_for(lambda: wanted(self.spans), seconds), self.spans
            return list(self.spans)


class Handler(BaseHTTPRequestHandler):
    """Takes OTLP over HTTP in its binary form."""

    server: Collector

    def do_POST(self) -> None:
        assert (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.take(ExportTraceServiceRequest.FromString(body))
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def values(attributes: Any) -> dict[str, Any]:
    """Return attributes as a dictionary."""
    return {one.key: _value(one) for one in attributes}


def _value(attribute: KeyValue) -> Any:
    return getattr(attribute.value, attribute.value.WhichOneof("value") or "string_value")
