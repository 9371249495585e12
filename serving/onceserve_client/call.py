"""One call from its key to its last try, whoever sends it."""

import logging
import random
import time
import uuid
from datetime import UTC, datetime
from typing import Final, TypeAlias

import httpx

from onceserve_client.policy import Policy, Tokens, retry_after

KEY: Final = "Idempotency-Key"
IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods that need no key to be sent again."""

TRANSIENT: Final = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError)
"""Errors after which the server may or may not have the request."""

CONFLICT: Final = 409
RETRIED: Final = frozenset({CONFLICT, 429, 502, 503, 504})
"""Statuses that are no final answer."""

PREFER: Final = "Prefer"
MARGIN: Final = 1
"""Seconds of the read timeout that are left to the way of an answer which the server waits for."""

TIMEOUTS: Final = ("connect", "read", "write", "pool")
SHORTEST: Final = 0.01
"""Seconds that a timeout has at least."""

Outcome: TypeAlias = httpx.Response | httpx.TransportError

log = logging.getLogger("onceserve_client")


class StreamedBodyError(httpx.StreamError):
    """The request's body can be sent only once."""

    def __init__(self) -> None:
        super().__init__(
            "the request's body is a stream, which cannot be sent again: expected bytes, as by calling read() of the "
            "request (aread() where it is asynchronous) first"
        )


class Call:
    """A request that is sent until it has its final answer; gives it a key if it needs one and has none."""

    def __init__(self, request: httpx.Request, policy: Policy, tokens: Tokens) -> None:
        if not isinstance(request.stream, httpx.ByteStream):
            raise StreamedBodyError
        if request.method not in IDEMPOTENT:
            request.headers.setdefault(KEY, f'"{uuid.uuid4()}"')
        self._request = request
        self._policy = policy
        self._tokens = tokens
        self._tries = 0
        self._began = time.monotonic()
        tokens.call(self._began)

    def next(self) -> httpx.Request:
        """Return the request of the next try: its timeouts end with the call's time."""
        self._tries += 1
        request = self._request
        timeout = self._timeout()
        headers = request.headers.copy()
        if KEY in headers and (wait := int(timeout["read"]) - MARGIN) > 0:
            headers.setdefault(PREFER, f"wait={wait}")
        extensions = {**request.extensions, "timeout": timeout}
        return httpx.Request(request.method, request.url, headers=headers, stream=request.stream, extensions=extensions)

    def pause(self, outcome: Outcome) -> float | None:
        """Return the seconds before the next try, None if what came of this one is final."""
        if isinstance(outcome, httpx.Response) and not self._is_retried(outcome.status_code):
            return None
        now = time.monotonic()
        seconds = self._policy.pause(
            tries=self._tries,
            elapsed=now - self._began,
            asked=retry_after(outcome.headers, datetime.now(UTC)) if isinstance(outcome, httpx.Response) else 0.0,
            drawn=random.random(),  # noqa: S311
        )
        if seconds is None or not self._tokens.take(now):
            return None
        log.info(
            "%s %s: once more in %.2f s: %s", self._request.method, self._request.url.host, seconds, _words(outcome)
        )
        return seconds

    def _timeout(self) -> dict[str, float]:
        left = max(self._policy.seconds - (time.monotonic() - self._began), SHORTEST)
        given = self._request.extensions.get("timeout", {})
        return {name: left if given.get(name) is None else min(given[name], left) for name in TIMEOUTS}

    def _is_retried(self, status: int) -> bool:
        # Without a key a conflict is one with the resource, which stays.
        return status in RETRIED and (status != CONFLICT or KEY in self._request.headers)


def result(outcome: Outcome) -> httpx.Response:
    """Return the response; raises the error if it is one."""
    if isinstance(outcome, httpx.Response):
        return outcome
    raise outcome


def _words(outcome: Outcome) -> str:
    if isinstance(outcome, httpx.Response):
        return f"status {outcome.status_code}"
    return f"{type(outcome).__name__}: {outcome}"
