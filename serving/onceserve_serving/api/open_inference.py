"""The infer route of the Open Inference Protocol, as a raw ASGI endpoint.

It is the hot path: no framework, no middleware, nothing per request that can be done once.
"""

import asyncio
import re
import time
from collections.abc import Mapping
from functools import partial
from typing import Final, NamedTuple, TypeAlias

from starlette.types import Receive, Scope, Send

from onceserve_serving.api import body as bodies
from onceserve_serving.api.body import ClientGoneError
from onceserve_serving.api.departures import Departures
from onceserve_serving.api.problems import MethodNotAllowedError, UnsupportedMediaTypeError, problem_of
from onceserve_serving.codec import compression, rest
from onceserve_serving.edge import Edge
from onceserve_serving.errors import InvalidRequestError, UnknownModelError
from onceserve_serving.observation import REQUEST_ID, Observation
from onceserve_serving.pipeline import Call, Inference, Pipeline
from onceserve_serving.repository import Repository
from onceserve_serving.telemetry import Telemetry
from onceserve_serving.tensors import Buffer

Headers: TypeAlias = Mapping[bytes, bytes]

CLIENT_GONE: Final = 499
"""Code under which a request is counted whose client left before it was answered."""

JSON: Final = (b"content-type", b"application/json")
BINARY: Final = (b"content-type", b"application/octet-stream")
MEDIA_TYPES: Final = frozenset({b"application/json", b"application/octet-stream"})
"""Triton's asyncio client names its JSON octets."""

HEADER_LENGTH: Final = b"inference-header-content-length"
TIMEOUT: Final = b"x-request-timeout"

_TIMEOUT: Final = re.compile(rb"(\d{1,9}(?:\.\d{1,9})?)\s*(ms|s|)")
_LENGTH: Final = re.compile(rb"\d{1,18}")

JOINED: Final = 2**16
"""Bytes up to which an answer is joined and sent as one: a copy costs less than a further message."""


class Answer(NamedTuple):
    """A response, its body in pieces; without headers nobody is there to read it."""

    status: int
    headers: list[tuple[bytes, bytes]]
    pieces: list[Buffer]


class InferEndpoint:
    """POST /v2/models/{model}[/versions/{version}]/infer."""

    def __init__(
        self,
        repository: Repository,
        pipeline: Pipeline,
        telemetry: Telemetry,
        max_body_bytes: int,
        *,
        edge: Edge | None = None,
    ) -> None:
        self._edge = edge or Edge()
        self._repository = repository
        self._pipeline = pipeline
        self._telemetry = telemetry
        self._inflight = telemetry.inflight
        self._max_body_bytes = max_body_bytes
        self._departures = Departures()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever it is."""
        started = time.perf_counter()
        self._inflight.count += 1
        headers = dict(scope["headers"])
        seen = self._edge.observer.begin(scope["method"], scope["path"], headers)
        try:
            answer = await self._answer(scope, headers, receive, seen)
            # Counted before it is sent, so that who has an answer also finds it in the metrics.
            seconds = time.perf_counter() - started
            self._telemetry.answered(answer.status, seconds)
            self._edge.observer.end(seen, answer.status, seconds)
            await _send(answer, send)
        finally:
            self._inflight.count -= 1

    async def _answer(self, scope: Scope, headers: Headers, receive: Receive, seen: Observation) -> Answer:
        try:
            answer = await self._infer(scope, headers, receive, seen)
        except ClientGoneError:
            return Answer(CLIENT_GONE, [], [])
        except Exception as error:
            seen.error = error
            status, named, body = problem_of(error)
            answer = Answer(status, _encoded(named), [body])
        answer.headers.append((REQUEST_ID, seen.request_id.encode()))
        answer.headers.append((b"content-length", b"%d" % sum(map(len, answer.pieces))))
        return answer

    async def _infer(self, scope: Scope, headers: Headers, receive: Receive, seen: Observation) -> Answer:
        seen.tenant = self._edge.tenant(headers)
        if scope["method"] != "POST":
            raise MethodNotAllowedError(f"{scope['method']} is not served here: inference takes POST")
        name, version = target(scope["path"])
        seen.model = name
        # Before the body is read, which may be long.
        self._repository.get(name, version)
        _check_media_type(headers)
        header_length = _header_length(headers)
        call = Call(_deadline(headers), seen.tenant, seen.request_id)
        body = await bodies.read(receive, headers, self._max_body_bytes, header_length or 0)
        decode = partial(rest.decode, body, header_length)
        with self._departures.waiting(receive) as waiting:
            try:
                inference = await self._pipeline.infer(name, version, len(body), decode, call)
            except asyncio.CancelledError:
                if waiting.gone:
                    raise ClientGoneError from None
                raise
        return await _answered(inference, headers.get(b"accept-encoding"))


def is_infer(path: str) -> bool:
    """Tell whether a path is the infer route's, of whatever model."""
    return path.endswith("/infer") and path.startswith("/v2/models/")


def target(path: str) -> tuple[str, str | None]:
    """Return the model and the version (None: any) that an infer path names."""
    match path.split("/")[3:-1]:
        case [model]:
            return model, None
        case [model, "versions", version]:
            return model, version
    raise UnknownModelError(f"{path[:256]!r} names no model: expected /v2/models/NAME[/versions/VERSION]/infer")


def _check_media_type(headers: Headers) -> None:
    media_type = headers.get(b"content-type", b"application/json")
    if media_type in MEDIA_TYPES:
        return
    media_type = media_type.partition(b";")[0].strip().lower()
    if media_type not in MEDIA_TYPES:
        given = media_type[:64].decode("latin-1")
        raise UnsupportedMediaTypeError(
            f"Content-Type {given!r} is not served: expected application/json, "
            "or application/octet-stream with Inference-Header-Content-Length"
        )


def _header_length(headers: Headers) -> int | None:
    given = headers.get(HEADER_LENGTH)
    if given is None:
        return None
    if not _LENGTH.fullmatch(given):
        raise InvalidRequestError("Inference-Header-Content-Length must be a number of bytes")
    return int(given)


def _deadline(headers: Headers) -> float | None:
    given = headers.get(TIMEOUT)
    if given is None:
        return None
    found = _TIMEOUT.fullmatch(given.strip())
    seconds = float(found[1]) / (1000 if found[2] == b"ms" else 1) if found else 0.0
    if not seconds:
        raise InvalidRequestError("X-Request-Timeout must be a time above 0, in seconds as 1.5 or 1.5s, or as 500ms")
    return time.monotonic() + seconds


async def _answered(inference: Inference, accepted: bytes | None) -> Answer:
    pieces, header_length = rest.encode(
        inference.model, inference.version, inference.request, inference.arrays, inference.signature
    )
    headers = [JSON]
    if header_length is not None:
        headers = [BINARY, (HEADER_LENGTH, b"%d" % header_length)]
    coding = compression.IDENTITY if accepted is None else compression.choose(accepted)
    if coding != compression.IDENTITY and compression.pays(pieces):
        pieces = [await _compressed(pieces, coding)]
        headers.append((b"content-encoding", coding.encode()))
    return Answer(200, headers, pieces)


async def _compressed(pieces: list[Buffer], coding: str) -> bytes:
    if sum(map(len, pieces)) <= JOINED:
        return compression.compress(pieces, coding)
    return await asyncio.to_thread(compression.compress, pieces, coding)


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


async def _send(answer: Answer, send: Send) -> None:
    if not answer.headers:
        return
    pieces = answer.pieces
    if len(pieces) > 1 and sum(map(len, pieces)) <= JOINED:
        pieces = [b"".join(pieces)]
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    for piece in pieces[:-1]:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": pieces[-1]})
