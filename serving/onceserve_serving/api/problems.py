"""Errors at the edges: one table for HTTP and gRPC, one body for HTTP.

Every error over HTTP is `application/problem+json` (RFC 9457) and also carries the protocol's `error`, which clients
of it read.
"""

import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, NamedTuple

import orjson
from starlette.exceptions import HTTPException

from onceserve_serving import errors

CONTENT_TYPE: Final = "application/problem+json"
TYPE: Final = "urn:onceserve:problem:"

log = logging.getLogger(__name__)


class UnknownPathError(errors.OnceServeError):
    """There is no such path."""


class MethodNotAllowedError(errors.OnceServeError):
    """The path exists, not for this method."""


class UnsupportedMediaTypeError(errors.OnceServeError):
    """The body's media type or coding is not served."""


class PayloadTooLargeError(errors.OnceServeError):
    """The body is above the limit."""


class Kind(NamedTuple):
    """How a class of errors looks at the edges; `slug` ends the problem's type, `grpc` names a `grpc.StatusCode`."""

    status: HTTPStatus
    grpc: str
    slug: str
    title: str
    headers: Mapping[str, str] = {}


KINDS: Final[Mapping[type[Exception], Kind]] = {
    errors.InvalidRequestError: Kind(
        HTTPStatus.BAD_REQUEST, "INVALID_ARGUMENT", "invalid-request", "The request does not fit the model"
    ),
    errors.UnauthenticatedError: Kind(
        HTTPStatus.UNAUTHORIZED,
        "UNAUTHENTICATED",
        "unauthenticated",
        "The request carries no API key that is taken here",
        {"WWW-Authenticate": 'Bearer realm="onceserve"'},
    ),
    errors.InvalidKeyError: Kind(
        HTTPStatus.BAD_REQUEST, "INVALID_ARGUMENT", "invalid-idempotency-key", "The Idempotency-Key is not usable"
    ),
    errors.KeyMismatchError: Kind(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "FAILED_PRECONDITION",
        "idempotency-key-reused",
        "The Idempotency-Key belongs to another request",
    ),
    errors.InProgressError: Kind(
        HTTPStatus.CONFLICT, "ABORTED", "request-in-progress", "A request with this Idempotency-Key is being answered"
    ),
    errors.StoreFailedError: Kind(
        HTTPStatus.SERVICE_UNAVAILABLE, "UNAVAILABLE", "store-failed", "The store of answers does not answer"
    ),
    errors.StoreBusyError: Kind(
        HTTPStatus.SERVICE_UNAVAILABLE, "UNAVAILABLE", "store-busy", "Too many wait for the store of answers"
    ),
    errors.AnswerNotKeptError: Kind(
        HTTPStatus.GONE, "FAILED_PRECONDITION", "answer-not-kept", "The answer was given and is not kept"
    ),
    errors.PoisonedError: Kind(HTTPStatus.INTERNAL_SERVER_ERROR, "INTERNAL", "poisoned", "The request ends its server"),
    errors.ModelControlDisabledError: Kind(
        HTTPStatus.FORBIDDEN, "PERMISSION_DENIED", "model-control-disabled", "Models cannot be loaded or unloaded here"
    ),
    errors.UnknownModelError: Kind(HTTPStatus.NOT_FOUND, "NOT_FOUND", "unknown-model", "There is no such model"),
    UnknownPathError: Kind(HTTPStatus.NOT_FOUND, "UNIMPLEMENTED", "unknown-path", "There is no such path"),
    errors.ModelUnavailableError: Kind(
        HTTPStatus.UNPROCESSABLE_ENTITY, "FAILED_PRECONDITION", "model-unavailable", "The model cannot be loaded"
    ),
    errors.OverloadedError: Kind(
        HTTPStatus.TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED", "overloaded", "The server is busy"
    ),
    errors.NotReadyError: Kind(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "UNAVAILABLE",
        "not-ready",
        "The model does not answer now",
        {"Retry-After": "1"},
    ),
    errors.DeadlineExceededError: Kind(
        HTTPStatus.GATEWAY_TIMEOUT, "DEADLINE_EXCEEDED", "deadline-exceeded", "The request's time was over"
    ),
    errors.ExecutionFailedError: Kind(
        HTTPStatus.INTERNAL_SERVER_ERROR, "INTERNAL", "execution-failed", "The model failed"
    ),
    errors.UnrepresentableOutputError: Kind(
        HTTPStatus.INTERNAL_SERVER_ERROR, "INTERNAL", "unrepresentable-output", "The answer has no form in JSON"
    ),
    MethodNotAllowedError: Kind(
        HTTPStatus.METHOD_NOT_ALLOWED,
        "UNIMPLEMENTED",
        "method-not-allowed",
        "The path does not take this method",
        {"Allow": "POST, OPTIONS"},
    ),
    UnsupportedMediaTypeError: Kind(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "INVALID_ARGUMENT",
        "unsupported-media-type",
        "The body's form is not served",
        {"Accept": "application/json, application/octet-stream", "Accept-Encoding": "gzip, deflate, zstd"},
    ),
    PayloadTooLargeError: Kind(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "RESOURCE_EXHAUSTED", "payload-too-large", "The body is too large"
    ),
}
"""The one table from error to status."""

UNEXPECTED: Final = Kind(
    HTTPStatus.INTERNAL_SERVER_ERROR, "INTERNAL", "unexpected", "The server met an unexpected error"
)
UNEXPECTED_DETAIL: Final = "the server met an unexpected error; its log has the details"


class Problem(NamedTuple):
    """An error response over HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def kind_of(error: Exception) -> tuple[Kind, str]:
    """Return how an error looks and what is told of it; what the table does not know is logged and not told."""
    kind = KINDS.get(type(error))
    if kind is not None:
        return kind, str(error)
    log.error("unexpected error", exc_info=error)
    return UNEXPECTED, UNEXPECTED_DETAIL


def problem_of(error: Exception) -> Problem:
    """Return the HTTP response for an error."""
    if isinstance(error, HTTPException):
        status = HTTPStatus(error.status_code)
        return _problem(Kind(status, "UNKNOWN", "http", status.phrase, error.headers or {}), str(error.detail))
    kind, detail = kind_of(error)
    if isinstance(error, errors.RetryLaterError):
        kind = kind._replace(headers={"Retry-After": str(max(math.ceil(error.retry_after), 1))})
    return _problem(kind, detail)


def _problem(kind: Kind, detail: str) -> Problem:
    body = {
        "type": f"{TYPE}{kind.slug}",
        "title": kind.title,
        "status": kind.status.value,
        "detail": detail,
        "error": detail,
    }
    return Problem(kind.status.value, {"Content-Type": CONTENT_TYPE, **kind.headers}, orjson.dumps(body))
