"""Calls to pods and to a Prometheus."""

import asyncio
import json
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from onceserve_contract import http, verification
from onceserve_operator.api.rollout import GoldenRequest
from onceserve_operator.domain import Manifest
from onceserve_operator.errors import OperatorError
from onceserve_operator.inspection import measurement, queries
from onceserve_operator.inspection.measurement import Sample

_MEBIBYTE: Final = 1 << 20
# Data comes only of outputs that the resource has in full, and an API server takes 1.5 MiB for all of that.
_ANSWER_LIMIT: Final = 2 * _MEBIBYTE
_METRICS_LIMIT: Final = _MEBIBYTE
_CHUNK: Final = 1 << 16
_CONNECT_TIMEOUT: Final = 3.0
"""Seconds after which nobody is at an address, whatever they would be asked."""
# A pod is called by its IP address, which its certificate does not name. Who poses as one learns a token with which
# pods of that revision alone can be asked, and only what the model answers.
_ANY_CERTIFICATE: Final = False
# What is unpacked could be longer than the limit.
_PLAIN: Final = {"Accept-Encoding": "identity"}
_LONGEST: Final = 200
"""Characters that are told of what was answered: conditions and Events are short."""


class NoAnswerError(OperatorError):
    """What was called gave no answer that can be used, in words."""


class Calls:
    """Calls to pods by their addresses, and to Prometheus by its URL. All raise NoAnswerError.

    `run_timeout` is the seconds that one run of a model may take, the others are those of a whole call.
    """

    def __init__(
        self,
        *,
        port: int = http.PORT,
        run_timeout: float = verification.RUN_TIMEOUT,
        metrics_timeout: float = 3,
        query_timeout: float = 3,
    ) -> None:
        self._port = port
        self._run_timeout = run_timeout
        self._metrics_timeout = metrics_timeout
        self._query_timeout = query_timeout

    async def verify(self, address: str, scheme: str, token: str, requests: Sequence[GoldenRequest]) -> bytes:
        """Have a pod answer golden requests; return the body of its answer, whatever that is."""
        return await _fetch(
            "POST",
            self._url(address, scheme, verification.PATH),
            # The example comes before the golden requests.
            timeout=self._run_timeout * (1 + len(requests)),
            limit=_ANSWER_LIMIT,
            headers={verification.HEADER: token},
            json={"requests": [_asked(request) for request in requests]},
            ssl=_ANY_CERTIFICATE,
        )

    async def sample(self, address: str, scheme: str) -> Sample:
        """Read a pod's counters."""
        # A mebibyte of lines takes seconds.
        return await asyncio.to_thread(_sample, await self.metrics(address, scheme))

    async def metrics(self, address: str, scheme: str) -> str:
        """Return a pod's metrics as it writes them."""
        body = await _fetch(
            "GET",
            self._url(address, scheme, http.METRICS_PATH),
            timeout=self._metrics_timeout,
            limit=_METRICS_LIMIT,
            ssl=_ANY_CERTIFICATE,
        )
        try:
            return body.decode()
        except UnicodeDecodeError:
            raise NoAnswerError("its metrics cannot be read: they are no UTF-8") from None

    async def query(self, url: str, query: str) -> float:
        """Ask a Prometheus for one number."""
        body = await _fetch(
            "POST",
            f"{url.rstrip('/')}/api/v1/query",
            timeout=self._query_timeout,
            limit=_METRICS_LIMIT,
            # Who sets the URL may name anything and reads these words: of others than a Prometheus they tell nothing.
            explanation=queries.explanation,
            data={"query": query},
        )
        try:
            return queries.read(_object(body))
        except ValueError as error:
            raise NoAnswerError(str(error)) from None

    def _url(self, address: str, scheme: str, path: str) -> str:
        host = f"[{address}]" if ":" in address else address
        return f"{scheme}://{host}:{self._port}{path}"


def _asked(request: GoldenRequest) -> Manifest:
    return {
        "inputs": [tensor.model_dump(mode="json") for tensor in request.inputs],
        "data": {tensor.name: tensor.shape for tensor in request.expected},
    }


def _sample(exposition: str) -> Sample:
    try:
        families = text_string_to_metric_families(exposition)
        return measurement.read((one.name, one.labels, one.value) for family in families for one in family.samples)
    # The parser promises no kind of error.
    except Exception as error:
        raise NoAnswerError(f"its metrics cannot be read: {_brief(error)}") from error


def _error(answer: Manifest) -> str:
    """Return what a pod's error says."""
    words = answer.get("error")
    return words if isinstance(words, str) else ""


async def _fetch(
    method: str,
    url: str,
    *,
    timeout: float,  # noqa: ASYNC109
    limit: int,
    explanation: Callable[[Manifest], str] = _error,
    **parameters: Any,  # noqa: ANN401
) -> bytes:
    """Return the body of an answer of 200, at most `limit` bytes; `explanation` finds the words of any other.

    Redirects are not followed: they would carry the token to others.
    """
    # In all, not for each read: one that drips must end as well.
    timeouts = aiohttp.ClientTimeout(total=timeout, sock_connect=min(timeout, _CONNECT_TIMEOUT))
    try:
        async with (
            aiohttp.ClientSession(timeout=timeouts, headers=_PLAIN, auto_decompress=False) as session,
            session.request(method, url, allow_redirects=False, **parameters) as response,
        ):
            body = await _read(response, limit)
    except aiohttp.ConnectionTimeoutError:
        raise NoAnswerError("it cannot be called: nothing answers at its address") from None
    except TimeoutError:
        raise NoAnswerError(f"it did not answer within {timeout:g} s") from None
    except (aiohttp.ClientResponseError, aiohttp.ClientPayloadError):
        # Their words have what came instead.
        raise NoAnswerError("its answer is no HTTP") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise NoAnswerError(f"it cannot be called: {type(error).__name__}: {_brief(error)}") from error
    if response.status != HTTPStatus.OK:
        raise NoAnswerError(f"it answered {response.status}{_explained(body, explanation)}")
    return body


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK):
        body += chunk
        if len(body) > limit:
            raise NoAnswerError(f"its answer is longer than {limit} bytes")
    return bytes(body)


def _object(body: bytes) -> Manifest:
    try:
        answer = json.loads(body)
    # The latter where it is nested too deeply.
    except (ValueError, RecursionError):
        raise NoAnswerError("it answered no JSON") from None
    if not isinstance(answer, dict):
        raise NoAnswerError("it answered JSON that is no object")
    return answer


def _explained(body: bytes, explanation: Callable[[Manifest], str]) -> str:
    try:
        words = explanation(_object(body))
    except NoAnswerError:
        return ""
    return f": {_brief(words)}" if words else ""


def _brief(said: object) -> str:
    text = str(said)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
