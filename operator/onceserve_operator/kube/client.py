"""Calls to the API server."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from uuid import uuid4

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config.config_exception import ConfigException
from kubernetes.aio.dynamic import DynamicClient
from kubernetes.aio.dynamic.exceptions import DynamicApiError
from kubernetes.aio.dynamic.resource import Resource

from onceserve_operator.domain import Event, Key, Manifest
from onceserve_operator.errors import ApiRefusedError, ApiUnavailableError, NoClusterError, NotFoundError
from onceserve_operator.kube import kinds
from onceserve_operator.kube.kinds import Kind
from onceserve_operator.resources.names import FIELD_MANAGER

_PAGE = 500
_SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class Client:
    """The few calls that the operator makes. `on_call` is told of each, with its verb and kind.

    All raise ApiRefusedError for what the API server will not do, ApiUnavailableError for what it may do later.
    """

    def __init__(self, api: ApiClient, *, timeout: float) -> None:
        # Never awaited, so that it discovers nothing: the kinds are known.
        self._dynamic = DynamicClient(api)
        self._timeout = timeout
        self.on_call: Callable[[str, Kind], None] = lambda _verb, _kind: None

    async def list(self, kind: Kind, namespace: str | None) -> tuple[list[Manifest], int]:
        """Return the objects of a kind that concern us, and the version of the list."""
        items: list[Manifest] = []
        token: str | None = None
        while True:
            page = await self._request(
                "get", "list", kind, namespace, label_selector=kinds.selector(kind), limit=_PAGE, _continue=token
            )
            # Items of a list carry neither.
            items += ({"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in page["items"])
            token = page["metadata"].get("continue")
            if not token:
                return items, int(page["metadata"]["resourceVersion"])

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        """Return an object, or None where there is none."""
        try:
            return await self._request("get", "get", kind, namespace, name)
        except NotFoundError:
            return None

    async def apply(self, manifest: Manifest) -> Manifest:
        """Write the fields of a manifest, as their one owner, and return the object as stored."""
        kind, metadata = kinds.of(manifest), manifest["metadata"]
        return await self._apply(kind, metadata["namespace"], metadata["name"], manifest)

    async def apply_status(self, key: Key, status: Manifest) -> Manifest | None:
        """Write the status of a ModelDeployment; None where it has been deleted meanwhile."""
        kind = kinds.MODEL_DEPLOYMENT
        metadata = {"namespace": key.namespace, "name": key.name}
        body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "status": status}
        try:
            return await self._apply(kind, key.namespace, f"{key.name}/status", body)
        except NotFoundError:
            return None

    async def delete(self, manifest: Manifest) -> None:
        """Delete this very object and what hangs on it; a namesake made meanwhile is left alone."""
        metadata = manifest["metadata"]
        body = {"preconditions": {"uid": metadata["uid"]}, "propagationPolicy": "Background"}
        try:
            await self._request(
                "delete", "delete", kinds.of(manifest), metadata["namespace"], metadata["name"], body=body
            )
        except NotFoundError:
            return

    async def post_event(self, about: Manifest, event: Event) -> None:
        """Tell a person who describes the object."""
        await self._request("post", "create", kinds.EVENT, about["metadata"]["namespace"], body=_event(about, event))

    async def _apply(self, kind: Kind, namespace: str, name: str, body: Manifest) -> Manifest:
        return await self._request(
            "patch",
            "patch",
            kind,
            namespace,
            name,
            body=body,
            content_type="application/apply-patch+yaml",
            field_manager=FIELD_MANAGER,
            # Ours are the fields that a ModelDeployment determines; who edits them in a child is overruled.
            force_conflicts="true",
        )

    async def _request(
        self, method: str, verb: str, kind: Kind, namespace: str | None, name: str | None = None, **params: object
    ) -> Manifest:
        self.on_call(verb, kind)
        path = _resource(kind).path(name=name, namespace=namespace)
        try:
            answer: Manifest = await self._dynamic.request(
                method, path, serializer=lambda _client, data: data, _request_timeout=self._timeout, **params
            )
        except DynamicApiError as error:
            raise _translated(error) from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ApiUnavailableError(f"the API server does not answer: {type(error).__name__}: {error}") from error
        return answer


def _resource(kind: Kind) -> Resource:
    prefix = "apis" if kind.group else "api"
    return Resource(
        prefix=prefix, group=kind.group, api_version=kind.version, kind=kind.kind, namespaced=True, name=kind.plural
    )


def _event(about: Manifest, event: Event) -> Manifest:
    metadata = about["metadata"]
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{uuid4().hex[:16]}", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
        "reason": event.reason,
        "message": event.message[:1024],
        "type": "Warning" if event.warning else "Normal",
        "source": {"component": FIELD_MANAGER},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }


_PASSING = {401, 409, 429, 500, 502, 503, 504}
"""Statuses that say nothing about the object: the call is to be tried again."""


def _translated(error: DynamicApiError) -> ApiRefusedError | ApiUnavailableError:
    words = _words(error)
    if error.status == HTTPStatus.NOT_FOUND:
        return NotFoundError(words)
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
async def connect(*, timeout: float) -> AsyncIterator[Client]:  # noqa: ASYNC109 - of each call, not of this
    """Yield a client for the cluster that the process runs in, else for the current context of the kubeconfig.

    Raises NoClusterError where there is neither.
    """
    configuration = Configuration()
    try:
        if _in_cluster():
            config.load_incluster_config(client_configuration=configuration)
        else:
            await config.load_kube_config(client_configuration=configuration)
    except ConfigException as error:
        raise NoClusterError(f"neither in a cluster nor with a usable kubeconfig (KUBECONFIG): {error}") from None
    async with ApiClient(configuration) as api:
        yield Client(api, timeout=timeout)
