"""The infer route of the Open Inference Protocol, as a raw ASGI endpoint.

It is the hot path: no framework, no middleware, nothing per request that can be done once.
"""

import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from starlette.types import Receive, Scope, Send

from onceserve_serving.api.problems import (
    MethodNotAllowedError,
    PayloadTooLargeError,
    UnsupportedMediaTypeError,
    problem_of,
)
from onceserve_serving.errors import UnknownModelError
from onceserve_serving.pipeline import Pipeline
from onceserve_serving.served import ServedModel
from onceserve_serving.telemetry import Telemetry

CLIENT_GONE: Final = 499
"""Code under which a request is counted whose client left before its body was complete."""

JSON: Final = (b"content-type", b"application/json")
HEADER_LENGTH: Final = b"inference-header-content-length"


class ClientGoneError(Exception):
    """The client left before its request was complete."""


class Answer(NamedTuple):
    """A response; without headers nobody is there to read it."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class InferEndpoint:
    """POST /v2/models/{model}[/versions/{version}]/infer."""

    def __init__(self, model: ServedModel, pipeline: Pipeline, telemetry: Telemetry, max_body_bytes: int) -> None:
        self._model = model
        self._pipeline = pipeline
        self._telemetry = telemetry
        self._inflight = telemetry.inflight
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever it is."""
        started = time.perf_counter()
        self._inflight.count += 1
        try:
            answer = await self._answer(scope, receive)
            # Counted before it is sent, so that who has an answer also finds it in the metrics.
            self._telemetry.answered(answer.status, time.perf_counter() - started)
            await _send(answer, send)
        finally:
            self._inflight.count -= 1

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        try:
            body = await self._pipeline.infer(await self._request_body(scope, receive))
        except ClientGoneError:
            return Answer(CLIENT_GONE, [], b"")
        except Exception as error:
            status, headers, body = problem_of(error)
            return Answer(status, [*_encoded(headers), _length(body)], body)
        return Answer(200, [JSON, _length(body)], body)

    async def _request_body(self, scope: Scope, receive: Receive) -> bytes:
        if scope["method"] != "POST":
            raise MethodNotAllowedError(f"{scope['method']} is not served here: inference takes POST")
        self._model.check(*target(scope["path"]))
        headers = dict(scope["headers"])
        _check_media_type(headers)
        return await _read(receive, _declared_length(headers), self._max_body_bytes)


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


def _check_media_type(headers: Mapping[bytes, bytes]) -> None:
    if HEADER_LENGTH in headers:
        raise UnsupportedMediaTypeError("binary tensors are not served: send the tensors' data as JSON")
    media_type = headers.get(b"content-type", b"application/json").partition(b";")[0].strip().lower()
    if media_type != b"application/json":
        given = media_type[:64].decode("latin-1")
        raise UnsupportedMediaTypeError(f"Content-Type {given!r} is not served: expected application/json")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise UnsupportedMediaTypeError("compressed bodies are not served: send the body without Content-Encoding")


def _declared_length(headers: Mapping[bytes, bytes]) -> int:
    length = headers.get(b"content-length", b"0")
    return int(length) if length.isdigit() else 0


async def _read(receive: Receive, declared: int, limit: int) -> bytes:
    _check_length(declared, limit)
    message = await _next(receive)
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        body = await _read_rest(receive, body, limit)
    _check_length(len(body), limit)
    return body


async def _read_rest(receive: Receive, first: bytes, limit: int) -> bytes:
    body, more = bytearray(first), True
    while more:
        message = await _next(receive)
        body += message.get("body", b"")
        _check_length(len(body), limit)
        more = message.get("more_body", False)
    return bytes(body)


async def _next(receive: Receive) -> Mapping[str, Any]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    return message


def _check_length(length: int, limit: int) -> None:
    if length > limit:
        raise PayloadTooLargeError(f"the body has more than {limit} bytes, which is the limit of this server")


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def _length(body: bytes) -> tuple[bytes, bytes]:
    return b"content-length", b"%d" % len(body)


async def _send(answer: Answer, send: Send) -> None:
    if answer.headers:
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": answer.body})
