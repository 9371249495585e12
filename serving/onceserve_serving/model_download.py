"""Models over HTTP."""

import logging
import time
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import httpx

from onceserve_contract.termination import FailureReason
from onceserve_serving import __version__
from onceserve_serving.errors import ModelUnavailableError, too_large

TIMEOUT: Final = httpx.Timeout(4.0, connect=3.0)
"""Seconds to connect, and between two pieces of the answer."""

PATIENCE: Final = 2.0
"""Seconds after which no further attempt begins: the kubelet restarts the pod anyway, and the reason must show soon."""

HEADERS: Final = {"User-Agent": f"onceserve/{__version__}", "Accept-Encoding": "identity"}
FIRST_PAUSE: Final = 0.5
ATTEMPT_AGAIN: Final = frozenset({429, 500, 502, 503, 504})
REASONS: Final = {
    401: FailureReason.ACCESS_DENIED,
    403: FailureReason.ACCESS_DENIED,
    407: FailureReason.ACCESS_DENIED,
    404: FailureReason.NOT_FOUND,
    410: FailureReason.NOT_FOUND,
}

log = logging.getLogger(__name__)


class _TransientError(Exception):
    """A failure that may pass."""


def download(url: str, max_bytes: int) -> bytes:
    """Return what an http(s) URL answers, with a few attempts; raises ModelUnavailableError."""
    with httpx.Client(headers=HEADERS, timeout=TIMEOUT, follow_redirects=True) as client:
        return _patiently(client, url, max_bytes)


def shown(url: str) -> str:
    """Return a URL without what must not be shown: user, password, and the query, where signatures are."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" + ("?…" if parts.query else "")


def _patiently(client: httpx.Client, url: str, max_bytes: int) -> bytes:
    end = time.monotonic() + PATIENCE
    pause = FIRST_PAUSE
    while True:
        try:
            return _attempt(client, url, max_bytes)
        except _TransientError as error:
            if time.monotonic() + pause > end:
                raise ModelUnavailableError(
                    FailureReason.UNREACHABLE, f"{shown(url)} cannot be fetched: {error}"
                ) from error
            log.warning("fetching the model failed and is tried again: %s", error)
        time.sleep(pause)
        pause *= 2


def _attempt(client: httpx.Client, url: str, max_bytes: int) -> bytes:
    try:
        with client.stream("GET", url) as response:
            _check_status(response, url)
            return _body(response, max_bytes)
    except httpx.TransportError as error:
        if isinstance(error, httpx.UnsupportedProtocol):
            raise ModelUnavailableError(
                FailureReason.UNREACHABLE, f"{shown(url)} redirects to no http(s) URL"
            ) from None
        raise _TransientError(str(error) or type(error).__name__) from error
    except (httpx.TooManyRedirects, httpx.InvalidURL) as error:
        raise ModelUnavailableError(FailureReason.UNREACHABLE, f"{shown(url)} cannot be fetched: {error}") from None


def _check_status(response: httpx.Response, url: str) -> None:
    status = response.status_code
    answer = f"{status} {HTTPStatus(status).phrase}" if status in set(HTTPStatus) else str(status)
    if status in ATTEMPT_AGAIN:
        raise _TransientError(f"the server answers {answer}")
    if not response.is_success:
        reason = REASONS.get(status, FailureReason.UNREACHABLE)
        raise ModelUnavailableError(reason, f"{shown(url)} answers {answer}")


def _body(response: httpx.Response, max_bytes: int) -> bytes:
    body = bytearray()
    for piece in response.iter_bytes():
        body += piece
        if len(body) > max_bytes:
            raise too_large(max_bytes)
    return bytes(body)
