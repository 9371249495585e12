"""ModelInfer: the hot path of gRPC."""

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from onceserve_contract.http import SERVED_BY_HEADER
from onceserve_serving import observation
from onceserve_serving.api.grpc import errors
from onceserve_serving.api.problems import kind_of
from onceserve_serving.auth.gate import metadata_headers
from onceserve_serving.codec import protobuf
from onceserve_serving.edge import Edge
from onceserve_serving.observation import GRPC, Observation
from onceserve_serving.pipeline import Call, Pipeline
from onceserve_serving.telemetry import GRPC as PROTOCOL
from onceserve_serving.telemetry import Telemetry

if TYPE_CHECKING:
    from onceserve_serving.api.grpc.errors import Context, Metadata

REQUEST_ID: Final = observation.REQUEST_ID.decode()
PATH: Final = "/inference.GRPCInferenceService/ModelInfer"

OK: Final = 200
CLIENT_GONE: Final = 499
DEADLINE_OVER: Final = 504
"""Codes under which calls are counted: HTTP's for the same outcome, so that one rule watches both protocols."""

CLOCKS_APART: Final = 0.1
"""Seconds before its deadline at which a call that ends counts as late: a client begins to count before we do."""


class Infer:
    """Takes and gives bytes, so that what is no message is answered and counted like any bad request."""

    def __init__(self, pipeline: Pipeline, telemetry: Telemetry, edge: Edge, pod_name: str) -> None:
        self._pipeline = pipeline
        self._telemetry = telemetry
        self._inflight = telemetry.inflight
        self._edge = edge
        self._served_by = (SERVED_BY_HEADER, pod_name)
        self.calls = 0
        self.running = 0

    async def answer(self, data: bytes, context: "Context") -> bytes:
        """Answer one call, whatever it is."""
        started = time.perf_counter()
        headers = metadata_headers(context.invocation_metadata())
        seen = self._edge.observer.begin(GRPC, PATH, headers)
        self._inflight.count += 1
        self.running += 1
        self.calls += 1
        try:
            seen.tenant = self._edge.tenant(headers)
            answer = await self._infer(data, seen, context)
        except asyncio.CancelledError:
            self._end(seen, *_gone(context), started)
            raise
        except Exception as error:
            seen.error = error
            kind, detail = kind_of(error)
            self._end(seen, kind.status, kind.grpc, started)
            await errors.abort(context, kind, detail, error, self._metadata(seen))
        else:
            self._end(seen, OK, "OK", started)
            context.set_trailing_metadata(self._metadata(seen))
            return answer
        finally:
            self._inflight.count -= 1
            self.running -= 1

    async def _infer(self, data: bytes, seen: Observation, context: "Context") -> bytes:
        message = protobuf.parse(data)
        seen.model = message.model_name
        call = Call(_deadline(context), seen.tenant, seen.request_id)
        decode = partial(protobuf.decode, message)
        version = message.model_version or None
        out = await self._pipeline.infer(message.model_name, version, len(data), decode, call)
        return protobuf.encode(out.model, out.version, out.request, out.arrays, out.signature)

    def _end(self, seen: Observation, status: int, code: str, started: float) -> None:
        # Counted before it is sent, so that who has an answer also finds it in the metrics.
        seconds = time.perf_counter() - started
        self._telemetry.answered(status, seconds, PROTOCOL)
        self._edge.observer.end(seen, status, seconds, code)

    def _metadata(self, seen: Observation) -> "Metadata":
        return self._served_by, (REQUEST_ID, seen.request_id)


def _deadline(context: "Context") -> float | None:
    left = context.time_remaining()
    return None if left is None else time.monotonic() + left


def _gone(context: "Context") -> tuple[int, str]:
    left = context.time_remaining()
    over = left is not None and left <= CLOCKS_APART
    return (DEADLINE_OVER, "DEADLINE_EXCEEDED") if over else (CLIENT_GONE, "CANCELLED")
