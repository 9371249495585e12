"""The environment variables of a pod, by which its server is configured.

What a spec leaves out is left out here too: the server's own default holds.
"""

import re

from onceserve_contract import environment, grpc, http
from onceserve_operator import quantities
from onceserve_operator.api.v1alpha1 import Idempotency, ModelDeploymentSpec, Store
from onceserve_operator.domain import Key, Manifest
from onceserve_operator.resources import volumes
from onceserve_operator.resources.drain import DRAIN_DELAY, drain_timeout

Values = dict[str, str | None]

_MEMORY = "memory:"
_INNER_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def of_container(key: Key, revision: str, spec: ModelDeploymentSpec) -> list[Manifest]:
    """Return the field `env` of the server's container; a person's own variables are last, and may refer to ours."""
    values = _basics(key, revision, spec) | _load(spec) | _files(spec) | _idempotency(key, spec.idempotency)
    given = [{"name": name, "value": value} for name, value in values.items() if value is not None]
    own = [variable.model_dump(by_alias=True, exclude_none=True) for variable in spec.server.env]
    return [*given, *_references(spec), *own]


def _basics(key: Key, revision: str, spec: ModelDeploymentSpec) -> Values:
    return {
        environment.MODEL_NAME: spec.model.name or key.name,
        environment.MODEL_VERSION: revision,
        environment.MODEL_URI: volumes.model_uri(spec),
        environment.MODEL_SHA256: spec.model.sha256,
        environment.THREADS: _number(spec.server.threads),
        environment.PORT: str(http.PORT),
        environment.GRPC_PORT: str(grpc.PORT),
        environment.DRAIN_DELAY: str(DRAIN_DELAY),
        environment.DRAIN_TIMEOUT: str(drain_timeout(spec.admission)),
    }


def _load(spec: ModelDeploymentSpec) -> Values:
    batching, admission = spec.batching, spec.admission
    return {
        environment.MAX_BATCH_SIZE: _number(batching.max_batch_size),
        environment.MAX_DELAY: _seconds(batching.max_delay),
        environment.MAX_CONCURRENCY: _number(admission.max_concurrency),
        environment.MAX_QUEUE: _number(admission.max_queue),
        environment.TIMEOUT: _seconds(admission.timeout),
    }


def _files(spec: ModelDeploymentSpec) -> Values:
    secured = spec.server.tls is not None
    return {
        environment.API_KEYS: volumes.API_KEYS if spec.auth else None,
        # The names that a Secret of type kubernetes.io/tls has.
        environment.TLS_CERT: f"{volumes.TLS}/tls.crt" if secured else None,
        environment.TLS_KEY: f"{volumes.TLS}/tls.key" if secured else None,
    }


def _idempotency(key: Key, given: Idempotency | None) -> Values:
    if given is None:
        return {}
    return {
        environment.IDEMPOTENCY_SCOPE: str(key),
        environment.IDEMPOTENCY_MODE: _word(given.mode),
        environment.IDEMPOTENCY_STORE: _MEMORY if given.store and not given.store.url_from else None,
        environment.IDEMPOTENCY_STORE_TYPE: given.store.type.lower() if given.store else None,
        environment.IDEMPOTENCY_LEASE: _seconds(given.lease),
        environment.IDEMPOTENCY_RETENTION: _seconds(given.retention),
        environment.IDEMPOTENCY_WHEN_STORE_FAILS: _word(given.when_store_fails),
        environment.IDEMPOTENCY_ON_CONFLICT: _word(given.on_conflict),
    }


def _references(spec: ModelDeploymentSpec) -> list[Manifest]:
    pod_name = {"name": environment.POD_NAME, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    store = spec.idempotency.store if spec.idempotency else None
    return [pod_name, *(_store_url(store) if store else [])]


def _store_url(store: Store) -> list[Manifest]:
    if store.url_from is None:
        return []
    return [{"name": environment.IDEMPOTENCY_STORE, "valueFrom": store.url_from.model_dump(by_alias=True)}]


def _number(value: int | None) -> str | None:
    return None if value is None else str(value)


def _seconds(duration: str | None) -> str | None:
    return None if duration is None else f"{quantities.seconds(duration):.12g}"


def _word(value: str | None) -> str | None:
    """Return a CamelCase word as the server's options have it: `FailClosed` as `fail-closed`."""
    return None if value is None else _INNER_CAPITAL.sub("-", value).lower()
