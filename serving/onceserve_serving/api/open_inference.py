"""The infer route of the Open Inference Protocol.

It is the hot path: no framework, no middleware, nothing per request that can be done once.
"""

import asyncio
import re
import time
import urllib.parse
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Final, TypeAlias

import httptools

from onceserve_serving import logs
from onceserve_serving.api.body import Body
from onceserve_serving.api.problems import MethodNotAllowedError, UnsupportedMediaTypeError, problem_of
from onceserve_serving.codec import compression, rest
from onceserve_serving.edge import Edge
from onceserve_serving.errors import InvalidRequestError, UnknownModelError
from onceserve_serving.http_protocol import JOINED, Answer, Head, Headers
from onceserve_serving.idempotency import keys
from onceserve_serving.idempotency.guard import Answered
from onceserve_serving.idempotency.record import Outcome
from onceserve_serving.observation import REQUEST_ID, ROUTE, VERSION_ROUTE
from onceserve_serving.pipeline import Call, Inference, Keyed, Pipeline
from onceserve_serving.repository import Repository
from onceserve_serving.served import ServedModel
from onceserve_serving.telemetry import Telemetry
from onceserve_serving.tensors import Buffer, InferenceRequest, Signature

Decode: TypeAlias = Callable[[Signature], InferenceRequest]

CLIENT_GONE: Final = 499
"""Code under which a request is counted whose client left before it was answered."""

JSON: Final = (b"content-type", b"application/json")
BINARY: Final = (b"content-type", b"application/octet-stream")
MEDIA_TYPES: Final = frozenset({b"application/json", b"application/octet-stream"})
"""Triton's asyncio client names its JSON octets."""

MODEL_VERSION: Final = b"idempotency-model-version"
ATTEMPT: Final = b"idempotency-attempt"
REPLAYED: Final = (b"idempotent-replayed", b"true")
NOT_STORED: Final = (b"idempotency-stored", b"false")

HEADER_LENGTH: Final = b"inference-header-content-length"
TIMEOUT: Final = b"x-request-timeout"

KNOWN: Final = 1024
LONGEST_KNOWN: Final = 512
"""Targets that are remembered, and the bytes that they may have: callers choose them."""

SMALL: Final = 2**16
"""Bytes of a body with a key up to which it is taken before there is room for it."""

NO_BODY: Final = Body({}, 0, 0)

_TIMEOUT: Final = re.compile(rb"(\d{1,9}(?:\.\d{1,9})?)\s*(ms|s|)")
_LENGTH: Final = re.compile(rb"\d{1,18}")


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
        self.edge = edge or Edge()
        self.repository = repository
        self.pipeline = pipeline
        self.telemetry = telemetry
        self.max_body_bytes = max_body_bytes

    def claims(self, method: bytes, url: bytes) -> bool:
        """Tell whether a request is for the infer route, of whatever model; OPTIONS is answered as everywhere."""
        return path_of(url) is not None and method != b"OPTIONS"

    def open(self, head: Head) -> "Exchange":
        """Begin with a request."""
        return Exchange(self, head)


class Exchange:
    """One request from its head to its answer."""

    __slots__ = (
        "_body",
        "_deadline",
        "_endpoint",
        "_head",
        "_header_length",
        "_key",
        "_model",
        "_seen",
        "_started",
        "_unserved",
        "refusal",
    )

    _model: ServedModel
    _body: Body
    _deadline: float | None
    _key: bytes | None

    def __init__(self, endpoint: InferEndpoint, head: Head) -> None:
        self._started = time.perf_counter()
        self._endpoint = endpoint
        self._head = head
        self._header_length: int | None = None
        self._unserved: UnknownModelError | None = None
        self.refusal: Answer | None = None
        endpoint.telemetry.inflight.count += 1
        path = path_of(head.url) or ""
        self._seen = endpoint.edge.observer.begin(head.method, path, head.headers)
        try:
            self._check(path)
        except Exception as error:
            self.refusal = self._failed(error)

    def add(self, piece: bytes) -> Answer | None:
        """Take a piece of the body; return the refusal if it was one too many."""
        try:
            self._body.add(piece)
        except Exception as error:
            self.refusal = self._failed(error)
        return self.refusal

    def room(self) -> memoryview | None:
        """Return where the rest of the body goes, if its length is known."""
        return self._body.room()

    async def answer(self) -> Answer:
        """Return the answer to the complete request; to be cancelled when its client leaves."""
        # A task that begins when another ends has that one's context.
        logs.request.set(self._seen)
        try:
            body = self._body.plain or await self._body.content()
            decode = partial(rest.decode, body, self._header_length)
            if self._key is not None:
                answer = _marked(await self._once(self._keyed(self._key, body), decode, len(body)))
            else:
                call = Call(self._model, len(body), decode, self._deadline, self._seen.tenant)
                answer = _answer(await self._endpoint.pipeline.infer(call))
            if (accepted := self._head.headers.get(b"accept-encoding")) is not None:
                answer = await _coded(answer, accepted)
        except asyncio.CancelledError:
            self._end(CLIENT_GONE)
            raise
        except Exception as error:
            return self._failed(error)
        return self._finished(answer)

    async def _once(self, keyed: Keyed, decode: Decode, size: int) -> Answered:
        pipeline = self._endpoint.pipeline
        if self._unserved is not None:
            return await pipeline.recall(keyed, size, self._unserved)
        return await pipeline.infer_once(Call(self._model, size, decode, self._deadline, self._seen.tenant), keyed)

    def abandon(self) -> None:
        """Note that the client left before its request was complete."""
        if self.refusal is None:
            self._end(CLIENT_GONE)

    def _check(self, path: str) -> None:
        """Check all that the head tells, before the body is read, which may be long."""
        headers, endpoint, seen = self._head.headers, self._endpoint, self._seen
        seen.tenant = endpoint.edge.tenant(headers)
        if self._head.method != "POST":
            raise MethodNotAllowedError(f"{self._head.method} is not served here: inference takes POST")
        name, version = target(path)
        seen.model = name
        self._key = self._find_key()
        try:
            self._model = endpoint.repository.get(name, version)
        except UnknownModelError as error:
            # What it was may have answered this key.
            if self._key is None:
                raise
            self._unserved = error
        _check_media_type(headers)
        self._header_length = _header_length(headers)
        self._deadline = _deadline(headers)
        self._body = Body(headers, endpoint.max_body_bytes, self._header_length or 0)
        # A small one with a key may have its answer of another that is on its way, whatever room there is.
        if self._unserved is None and (self._key is None or len(self._body) > SMALL):
            self._model.check_room(len(self._body))

    def _find_key(self) -> bytes | None:
        taken = self._endpoint.edge.keys
        if keys.HEADER not in self._head.headers and not taken.required:
            return None
        return taken.of([value for name, value in self._head.pairs if name == keys.HEADER])

    def _keyed(self, key: bytes, body: Buffer) -> Keyed:
        head, taken = self._head, self._endpoint.edge.keys
        route = VERSION_ROUTE if target(self._seen.path)[1] else ROUTE
        media_type, header_length = head.headers.get(b"content-type", b""), head.headers.get(HEADER_LENGTH, b"")
        said = b"%b\n%b\n%b\n%b" % (head.method.encode(), head.url, media_type.lower(), header_length)
        return Keyed(
            taken.record(key, self._seen.tenant, f"{head.method} {route}"),
            taken.fingerprinter.of(said, body),
            taken.wait(head.headers.get(keys.PREFER), self._endpoint.pipeline.timeout),
            _outcome,
            _refusal,
        )

    def _failed(self, error: Exception) -> Answer:
        self._seen.error = error
        return self._finished(_answer_of(_refusal(error)))

    def _finished(self, answer: Answer) -> Answer:
        answer.headers.append((REQUEST_ID, self._seen.request_id.encode()))
        answer.headers.append((b"content-length", b"%d" % sum(map(len, answer.pieces))))
        self._end(answer.status)
        return answer

    def _end(self, status: int) -> None:
        # Counted before it is sent, so that who has an answer also finds it in the metrics.
        seconds = time.perf_counter() - self._started
        telemetry = self._endpoint.telemetry
        telemetry.answered(status, seconds)
        telemetry.inflight.count -= 1
        # A connection keeps its last exchange while it is idle.
        self._body = NO_BODY
        self._endpoint.edge.observer.end(self._seen, status, seconds)


def is_infer(path: str) -> bool:
    """Tell whether a path is the infer route's, of whatever model."""
    return path.endswith("/infer") and path.startswith("/v2/models/")


def path_of(url: bytes) -> str | None:
    """Return the path that a request's target names if it is the infer route's, of whatever model."""
    return _known_path_of(url) if len(url) <= LONGEST_KNOWN else _path_of(url)


def _path_of(url: bytes) -> str | None:
    try:
        raw = httptools.parse_url(url).path or b""
    except httptools.HttpParserInvalidURLError:
        return None
    path = urllib.parse.unquote(raw.decode("ascii", "replace"))
    return path if is_infer(path) else None


_known_path_of = lru_cache(maxsize=KNOWN)(_path_of)


def target(path: str) -> tuple[str, str | None]:
    """Return the model and the version (None: any) that an infer path names; raises UnknownModelError."""
    return _known_target(path) if len(path) <= LONGEST_KNOWN else _target(path)


def _target(path: str) -> tuple[str, str | None]:
    match path.split("/")[3:-1]:
        case [model]:
            return model, None
        case [model, "versions", version]:
            return model, version
    raise UnknownModelError(f"{path[:256]!r} names no model: expected /v2/models/NAME[/versions/VERSION]/infer")


_known_target = lru_cache(maxsize=KNOWN)(_target)


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


def _answer(inference: Inference) -> Answer:
    pieces, header_length = rest.encode(
        inference.model, inference.version, inference.request, inference.arrays, inference.signature
    )
    if header_length is None:
        return Answer(200, [JSON], pieces)
    return Answer(200, [BINARY, (HEADER_LENGTH, b"%d" % header_length)], pieces)


def _outcome(inference: Inference) -> Outcome:
    status, headers, pieces = _answer(inference)
    return Outcome(status, (*headers, (MODEL_VERSION, inference.version.encode())), b"".join(pieces))


def _refusal(error: Exception) -> Outcome:
    status, headers, body = problem_of(error)
    return Outcome(status, tuple(_encoded(headers)), body)


def _answer_of(outcome: Outcome) -> Answer:
    return Answer(outcome.status, list(outcome.headers), [outcome.body])


def _marked(answered: Answered) -> Answer:
    """Return an answer that tells whether it was given before."""
    answer = _answer_of(answered.outcome)
    answer.headers.append(REPLAYED if answered.replayed else (ATTEMPT, b"%d" % answered.attempt))
    if not answered.stored:
        answer.headers.append(NOT_STORED)
    return answer


async def _coded(answer: Answer, accepted: bytes) -> Answer:
    """Return an answer in the content coding that its caller prefers."""
    coding = compression.choose(accepted) if len(accepted) <= LONGEST_KNOWN else compression.IDENTITY
    if coding == compression.IDENTITY or not compression.pays(answer.pieces):
        return answer
    headers = [*answer.headers, (b"content-encoding", coding.encode())]
    return Answer(answer.status, headers, [await _compressed(answer.pieces, coding)])


async def _compressed(pieces: list[Buffer], coding: str) -> bytes:
    if sum(map(len, pieces)) <= JOINED:
        return compression.compress(pieces, coding)
    return await asyncio.to_thread(compression.compress, pieces, coding)


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
