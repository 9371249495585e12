"""Requests to the API server, and what becomes of them."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config.config_exception import ConfigException
from kubernetes.aio.dynamic import DynamicClient
from kubernetes.aio.dynamic.exceptions import DynamicApiError
from kubernetes.aio.dynamic.resource import Resource

from onceserve_operator.domain import Manifest
from onceserve_operator.errors import (
    ApiRefusedError,
    ApiUnavailableError,
    ConflictError,
    NoClusterError,
    NotFoundError,
)
from onceserve_operator.kube.kinds import Kind

_SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class Connection:
    """One way to the API server.

    `on_call` is told of each request, with its verb and kind; `on_answer` of what the API server's silence was, or None
    where it answered.
    """

    def __init__(self, api: ApiClient, *, timeout: float) -> None:
        # Never awaited, so that it discovers nothing: the kinds are known.
        self._dynamic = DynamicClient(api)
        self.timeout = timeout
        self.on_call: Callable[[str, Kind], None] = lambda _verb, _kind: None
        self.on_answer: Callable[[str | None], None] = lambda _silence: None

    async def request(
        self,
        method: str,
        verb: str,
        kind: Kind,
        namespace: str | None,
        name: str | None = None,
        *,
        within: float | None = None,
        **params: object,
    ) -> Manifest:
        """Return the answer, awaited for `within` seconds at most and never longer than the timeout of all requests.

        Raises ApiRefusedError for what the API server will not do, ApiUnavailableError for what it may do later.
        """
        self.on_call(verb, kind)
        path = _resource(kind).path(name=name, namespace=namespace)
        timeout = self.timeout if within is None else min(within, self.timeout)
        try:
            answer: Manifest = await self._dynamic.request(
                method, path, serializer=lambda _client, data: data, _request_timeout=timeout, **params
            )
        except DynamicApiError as error:
            self.on_answer(None)
            raise _translated(error) from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            words = f"{type(error).__name__}: {error}"
            self.on_answer(words)
            raise ApiUnavailableError(f"the API server does not answer: {words}") from error
        self.on_answer(None)
        return answer


def _resource(kind: Kind) -> Resource:
    prefix = "apis" if kind.group else "api"
    return Resource(
        prefix=prefix, group=kind.group, api_version=kind.version, kind=kind.kind, namespaced=True, name=kind.plural
    )


_PASSING = {401, 409, 429, 500, 502, 503, 504}
"""Statuses that say nothing about the object: the call is to be tried again."""


def _translated(error: DynamicApiError) -> ApiRefusedError | ApiUnavailableError:
    words = _words(error)
    if error.status == HTTPStatus.NOT_FOUND:
        return NotFoundError(words)
    if error.status == HTTPStatus.CONFLICT:
        return ConflictError(words)
    return ApiUnavailableError(words) if error.status in _PASSING else ApiRefusedError(words)


def _words(error: DynamicApiError) -> str:
    """Return what the API server said, without the HTTP around it."""
    try:
        return str(error.summary())
    except (ValueError, TypeError, AttributeError):
        return f"{error.status} {error.reason}"


def _in_cluster() -> bool:
    return _SERVICE_ACCOUNT_TOKEN.exists()


@asynccontextmanager
async def connect(
    *,
    timeout: float,  # noqa: ASYNC109 - of each request, not of this
    user_agent: str,
    before_write: Callable[[], object] | None = None,
) -> AsyncIterator[Connection]:
    """Yield a connection to the cluster that the process runs in, else to the current context of the kubeconfig.

    `before_write` is called when a request that writes has its connection and its first byte is about to leave; what it
    raises stops the request. Raises NoClusterError where there is no cluster.
    """
    configuration = Configuration()
    if before_write is not None:
        configuration.trace_configs = [_fence(before_write)]
    try:
        if _in_cluster():
            config.load_incluster_config(client_configuration=configuration)
        else:
            await config.load_kube_config(client_configuration=configuration)
    except ConfigException as error:
        raise NoClusterError(f"neither in a cluster nor with a usable kubeconfig (KUBECONFIG): {error}") from None
    async with ApiClient(configuration) as api:
        api.user_agent = user_agent
        yield Connection(api, timeout=timeout)


def _fence(before_write: Callable[[], object]) -> aiohttp.TraceConfig:
    async def check(
        _session: aiohttp.ClientSession, _context: SimpleNamespace, request: aiohttp.TraceRequestHeadersSentParams
    ) -> None:
        if request.method != "GET":
            before_write()

    trace = aiohttp.TraceConfig()
    # Despite its name it comes before the headers are sent, and after the wait for a connection.
    trace.on_request_headers_sent.append(check)
    return trace
