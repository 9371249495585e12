"""ModelInfer: the hot path of gRPC."""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from onceserve_contract.http import SERVED_BY_HEADER
from onceserve_serving import observation
from onceserve_serving.api.grpc import errors
from onceserve_serving.api.problems import PayloadTooLargeError, kind_of
from onceserve_serving.auth.gate import metadata_headers
from onceserve_serving.codec import protobuf
from onceserve_serving.edge import Edge
from onceserve_serving.errors import UnknownModelError
from onceserve_serving.idempotency import keys
from onceserve_serving.idempotency.guard import Answered
from onceserve_serving.idempotency.record import Outcome
from onceserve_serving.observation import GRPC, GRPC_PATH, Observation
from onceserve_serving.pipeline import Call, Inference, Keyed, Pipeline
from onceserve_serving.proto.open_inference_pb2 import ModelInferRequest
from onceserve_serving.repository import Repository
from onceserve_serving.settings import Settings
from onceserve_serving.telemetry import GRPC as PROTOCOL
from onceserve_serving.telemetry import Telemetry

if TYPE_CHECKING:
    from onceserve_serving.api.grpc.errors import Context, Metadata

REQUEST_ID: Final = observation.REQUEST_ID.decode()

OK: Final = 200
CLIENT_GONE: Final = 499
DEADLINE_OVER: Final = 504
"""Codes under which calls are counted: HTTP's for the same outcome, so that one rule watches both protocols."""

CODE: Final = b"grpc-status"
MODEL_VERSION: Final = b"idempotency-model-version"
"""What is kept of an answer besides its message."""

CLOCKS_APART: Final = 0.1
"""Seconds before its deadline at which a call that ends counts as late: a client begins to count before we do."""


class Reply(NamedTuple):
    """An answer: a message, or with another status than OK the words of an error; `status` is HTTP's for the same."""

    content: bytes
    status: int = OK
    code: str = "OK"
    marks: "Metadata" = ()


class Infer:
    """Takes and gives bytes, so that what is no message is answered and counted like any bad request."""

    def __init__(
        self, repository: Repository, pipeline: Pipeline, telemetry: Telemetry, edge: Edge, settings: Settings
    ) -> None:
        self._repository = repository
        self._pipeline = pipeline
        self._telemetry = telemetry
        self._inflight = telemetry.inflight
        self._edge = edge
        self._max_bytes = settings.max_body_bytes
        self._served_by = (SERVED_BY_HEADER, settings.pod_name)
        self.calls = 0
        self.running = 0

    async def answer(self, data: bytes, context: "Context") -> bytes:
        """Answer one call, whatever it is."""
        started = time.perf_counter()
        headers = metadata_headers(context.invocation_metadata())
        seen = self._edge.observer.begin(GRPC, GRPC_PATH, headers)
        self._inflight.count += 1
        self.running += 1
        self.calls += 1
        try:
            seen.tenant = self._edge.tenant(headers)
            reply = await self._infer(data, seen, context)
        except asyncio.CancelledError:
            self._end(seen, *_gone(context), started)
            raise
        except Exception as error:
            seen.error = error
            kind, detail = kind_of(error)
            self._end(seen, kind.status, kind.grpc, started)
            await errors.abort(context, kind, detail, error, self._metadata(seen))
        else:
            self._end(seen, reply.status, reply.code, started)
            metadata = (*self._metadata(seen), *reply.marks)
            if reply.status != OK:
                await errors.abort_as(context, reply.code, reply.content.decode(), metadata)
            context.set_trailing_metadata(metadata)
            return reply.content
        finally:
            self._inflight.count -= 1
            self.running -= 1

    async def _infer(self, data: bytes, seen: Observation, context: "Context") -> Reply:
        if len(data) > self._max_bytes:
            raise PayloadTooLargeError(f"the message has {len(data)} bytes; this server takes {self._max_bytes}")
        message = protobuf.parse(data)
        seen.model = message.model_name
        key = self._edge.keys.of(_values(context, keys.HEADER))
        keyed = None if key is None else self._keyed(key, message, seen, context)
        try:
            model = self._repository.get(message.model_name, message.model_version or None)
        except UnknownModelError as error:
            # What it was may have answered this key.
            if keyed is None:
                raise
            return _reply(await self._pipeline.recall(keyed, len(data), error))
        call = Call(model, len(data), partial(protobuf.decode, message), _deadline(context), seen.tenant)
        if keyed is None:
            return Reply(_encoded(await self._pipeline.infer(call)))
        return _reply(await self._pipeline.infer_once(call, keyed))

    def _keyed(self, key: bytes, message: ModelInferRequest, seen: Observation, context: "Context") -> Keyed:
        # Maps have no order of their own, so that one message may be written in several ways.
        said = message.SerializeToString(deterministic=True)
        taken = self._edge.keys
        return Keyed(
            taken.record(key, seen.tenant, GRPC_PATH),
            taken.fingerprinter.of(GRPC_PATH.encode(), said),
            taken.wait(_first(_values(context, keys.PREFER)), self._pipeline.timeout),
            _outcome,
            _refusal,
        )

    def _end(self, seen: Observation, status: int, code: str, started: float) -> None:
        # Counted before it is sent, so that who has an answer also finds it in the metrics.
        seconds = time.perf_counter() - started
        self._telemetry.answered(status, seconds, PROTOCOL)
        self._edge.observer.end(seen, status, seconds, code)

    def _metadata(self, seen: Observation) -> "Metadata":
        return self._served_by, (REQUEST_ID, seen.request_id)


def _encoded(out: Inference) -> bytes:
    return protobuf.encode(out.model, out.version, out.request, out.arrays, out.signature)


def _outcome(out: Inference) -> Outcome:
    return Outcome(OK, ((CODE, b"OK"), (MODEL_VERSION, out.version.encode())), _encoded(out))


def _refusal(error: Exception) -> Outcome:
    kind, detail = kind_of(error)
    return Outcome(kind.status, ((CODE, kind.grpc.encode()),), errors.shortened(detail).encode())


def _reply(answered: Answered) -> Reply:
    outcome = answered.outcome
    kept = {name.decode(): value.decode() for name, value in outcome.headers}
    code = kept.pop(CODE.decode())
    mark = ("idempotent-replayed", "true") if answered.replayed else ("idempotency-attempt", str(answered.attempt))
    stored = () if answered.stored else (("idempotency-stored", "false"),)
    return Reply(outcome.body, outcome.status, code, (*kept.items(), mark, *stored))


def _values(context: "Context", name: bytes) -> list[bytes]:
    wanted = name.decode()
    found = [value for key, value in context.invocation_metadata() or () if key == wanted]
    return [value if isinstance(value, bytes) else value.encode() for value in found]


def _first(values: Sequence[bytes]) -> bytes | None:
    return values[0] if values else None


def _deadline(context: "Context") -> float | None:
    left = context.time_remaining()
    return None if left is None else time.monotonic() + left


def _gone(context: "Context") -> tuple[int, str]:
    left = context.time_remaining()
    over = left is not None and left <= CLOCKS_APART
    return (DEADLINE_OVER, "DEADLINE_EXCEEDED") if over else (CLIENT_GONE, "CANCELLED")
