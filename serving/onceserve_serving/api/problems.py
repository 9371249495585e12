"""Errors in HTTP's terms: one table, one body.

Every error is `application/problem+json` (RFC 9457) and also carries the protocol's `error`, which its clients read.
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, NamedTuple

import orjson
from starlette.exceptions import HTTPException

from onceserve_serving import errors

CONTENT_TYPE: Final = "application/problem+json"

log = logging.getLogger(__name__)


class MethodNotAllowedError(errors.OnceServeError):
    """The path exists, not for this method."""


class UnsupportedMediaTypeError(errors.OnceServeError):
    """The body's media type is not served."""


class PayloadTooLargeError(errors.OnceServeError):
    """The body is above the limit."""


class Kind(NamedTuple):
    """How a class of errors looks in HTTP; `slug` ends the problem's type."""

    status: HTTPStatus
    slug: str
    headers: Mapping[str, str] = {}


KINDS: Final[Mapping[type[Exception], Kind]] = {
    errors.InvalidRequestError: Kind(HTTPStatus.BAD_REQUEST, "invalid-request"),
    errors.UnknownModelError: Kind(HTTPStatus.NOT_FOUND, "unknown-model"),
    errors.NotReadyError: Kind(HTTPStatus.SERVICE_UNAVAILABLE, "not-ready", {"Retry-After": "1"}),
    errors.ExecutionFailedError: Kind(HTTPStatus.INTERNAL_SERVER_ERROR, "execution-failed"),
    errors.UnrepresentableOutputError: Kind(HTTPStatus.INTERNAL_SERVER_ERROR, "unrepresentable-output"),
    MethodNotAllowedError: Kind(HTTPStatus.METHOD_NOT_ALLOWED, "method-not-allowed", {"Allow": "POST"}),
    UnsupportedMediaTypeError: Kind(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type"),
    PayloadTooLargeError: Kind(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "payload-too-large"),
}
"""The one table from error to status."""

UNEXPECTED: Final = Kind(HTTPStatus.INTERNAL_SERVER_ERROR, "unexpected")


class Problem(NamedTuple):
    """An error response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def problem_of(error: Exception) -> Problem:
    """Return the response for an error; what the table does not know is logged and answered without its text."""
    if isinstance(error, HTTPException):
        return _problem(Kind(HTTPStatus(error.status_code), "http", error.headers or {}), str(error.detail))
    kind = KINDS.get(type(error))
    if kind is not None:
        return _problem(kind, str(error))
    log.error("unexpected error", exc_info=error)
    return _problem(UNEXPECTED, "the server met an unexpected error; its log has the details")


def _problem(kind: Kind, detail: str) -> Problem:
    body = {
        "type": f"urn:onceserve:problem:{kind.slug}",
        "title": kind.status.phrase,
        "status": kind.status.value,
        "detail": detail,
        "error": detail,
    }
    return Problem(kind.status.value, {"Content-Type": CONTENT_TYPE, **kind.headers}, orjson.dumps(body))
