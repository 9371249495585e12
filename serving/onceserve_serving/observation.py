"""What the log and the traces tell of a request."""

import itertools
import logging
import re
import secrets
import time
from collections.abc import Mapping
from typing import Final

from onceserve_serving import logs
from onceserve_serving.errors import OverloadedError
from onceserve_serving.tracing import Attributes, Trace, Tracing

REQUEST_ID: Final = b"x-request-id"
"""Header by which a client or a proxy names a request."""

TRACEPARENT: Final = b"traceparent"
TRACESTATE: Final = b"tracestate"

SERVER_FAULT: Final = 500

LONGEST: Final = 1024
"""Characters that are told of a path or of a model's name: both are the caller's."""

GRPC: Final = "GRPC"
"""What stands in for HTTP's method in calls over gRPC."""

ROUTE: Final = "/v2/models/{model}/infer"
VERSION_ROUTE: Final = "/v2/models/{model}/versions/{version}/infer"
GRPC_PATH: Final = "/inference.GRPCInferenceService/ModelInfer"

_ID: Final = re.compile(rb"[!-~]{1,128}")
_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*")

# Unique across servers and restarts by its beginning, within one by its number.
_PROCESS: Final = secrets.token_hex(6)
_numbers = itertools.count(1)

log = logging.getLogger(__name__)
access = logging.getLogger("onceserve_serving.access")


class Observation:
    """One request: its ids, made out only when asked for; its trace, if one is recorded; what the edge finds out."""

    __slots__ = ("_headers", "_request_id", "error", "model", "path", "tenant", "trace")

    def __init__(self, path: str, headers: Mapping[bytes, bytes], trace: Trace | None) -> None:
        self.path = path
        self.trace = trace
        self.model = ""
        self.tenant = ""
        self.error: Exception | None = None
        self._headers = headers
        self._request_id = ""

    @property
    def request_id(self) -> str:
        """The id that came with the request, or one of ours if none came or none that a log can carry."""
        if not self._request_id:
            given = self._headers.get(REQUEST_ID, b"")
            self._request_id = given.decode() if _ID.fullmatch(given) else f"{_PROCESS}-{next(_numbers)}"
        return self._request_id

    @property
    def trace_id(self) -> str:
        """The trace's id in hex, the caller's where none is recorded here; empty without one."""
        if self.trace is not None:
            return self.trace.trace_id
        found = _TRACEPARENT.fullmatch(self._headers.get(TRACEPARENT, b""))
        return found[1].decode() if found else ""


class Observer:
    """Follows requests: a span each where traces are wanted, a line where the server failed or every line is wanted."""

    def __init__(self, tracing: Tracing | None = None, *, access_log: bool = False) -> None:
        self._tracing = tracing
        self._access_log = access_log

    def begin(self, method: str, path: str, headers: Mapping[bytes, bytes]) -> Observation:
        """Begin with the request that this task answers; names of headers are in lower case.

        For gRPC, `method` is GRPC and `path` is /SERVICE/METHOD.
        """
        trace = None if self._tracing is None else _begin(self._tracing, method, path, headers)
        observation = Observation(path, headers, trace)
        logs.request.set(observation)
        return observation

    def end(self, observation: Observation, status: int, seconds: float, code: str = "") -> None:
        """Tell of a request that is answered, after this many seconds.

        `status` is HTTP's, for gRPC that of the same error over HTTP; `code` is the name of gRPC's own.
        """
        if observation.trace is not None:
            _end(observation.trace, observation, status, code)
        if status >= SERVER_FAULT:
            words = ("%s failed: %s", observation.path[:LONGEST], observation.error)
            # To refuse what is too much is what the server is to do.
            level = logging.WARNING if isinstance(observation.error, OverloadedError) else logging.ERROR
            log.log(level, *words, extra=_facts(observation, status, seconds, code))
        if self._access_log:
            path = observation.path[:LONGEST]
            access.info(
                "%s %s", path, code or status, extra={"path": path, **_facts(observation, status, seconds, code)}
            )
        # Its frames hold the body, and a server's timers hold the context of the request long after it has ended.
        observation.error = None


def ran(arrived: float, began: float, ended: float, together: int) -> None:
    """Tell the trace of this task's request that its run is over, together with those of its batch.

    Times are of `time.monotonic()`; `began` is 0 if it never began, `ended` if it ends now.
    """
    observation = logs.request.get()
    if not isinstance(observation, Observation) or observation.trace is None:
        return
    now = time.monotonic()
    observation.trace.child("queue", arrived, began or now, {})
    if began:
        observation.trace.child("compute", began, ended or now, {"onceserve.batch.size": together})


def _facts(observation: Observation, status: int, seconds: float, code: str) -> dict[str, str | int | float]:
    kind = type(observation.error).__name__ if observation.error else ""
    facts = {"model": observation.model[:LONGEST], "tenant": observation.tenant, "code": code, "error": kind}
    return {"status": status, "seconds": round(seconds, 6), **{name: value for name, value in facts.items() if value}}


def _begin(tracing: Tracing, method: str, path: str, headers: Mapping[bytes, bytes]) -> Trace:
    context = {name.decode(): headers[name].decode("latin-1") for name in (TRACEPARENT, TRACESTATE) if name in headers}
    if method == GRPC:
        return tracing.begin(path.lstrip("/"), {"rpc.system.name": "grpc", "rpc.method": path.lstrip("/")}, context)
    route = VERSION_ROUTE if "/versions/" in path else ROUTE
    attributes = {"http.request.method": method, "url.path": path, "http.route": route}
    return tracing.begin(f"{method} {route}", attributes, context)


def _end(trace: Trace, observation: Observation, status: int, code: str) -> None:
    facts: Attributes = {
        "onceserve.model.name": observation.model[:LONGEST],
        "onceserve.tenant": observation.tenant,
        "onceserve.request.id": observation.request_id,
        "error.type": type(observation.error).__name__ if observation.error else "",
        "rpc.response.status_code": code,
        "http.response.status_code": "" if code else status,
    }
    failure = str(observation.error) if status >= SERVER_FAULT else ""
    trace.end({name: value for name, value in facts.items() if value}, failure)
