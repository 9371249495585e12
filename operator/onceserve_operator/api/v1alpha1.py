"""Types of `onceserve.dev/v1alpha1`, the single source of the CRD and of its reference page.

Field docstrings become the descriptions that `kubectl explain` shows. Python only reads objects that the API server has
validated, so what must hold across fields is a CEL rule here and nowhere else.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from onceserve_operator.api.autoscaling import Autoscaling
from onceserve_operator.api.markers import (
    DATA_KEY_PATTERN,
    Duration,
    HostName,
    Int64,
    IntOrPercentage,
    LabelValue,
    ListMapKey,
    ObjectName,
    PositiveDuration,
    Quantity,
    Rule,
    at_least,
    at_most,
    rules,
)
from onceserve_operator.api.model import ApiModel
from onceserve_operator.api.rollout import Rollout, RolloutStatus

GROUP = "onceserve.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "ModelDeployment"
PLURAL = "modeldeployments"
SINGULAR = "modeldeployment"
SHORT_NAME = "mdep"

MAX_NAME_LENGTH = 50
"""Children append a revision to the name, and label values end at 63 characters."""


class Model(ApiModel):
    """What is served."""

    uri: Annotated[
        str,
        Field(min_length=1, max_length=2048, pattern=r"^\S+$"),
        Rule(
            "self.matches('^(https?://|configmap://|file:///)')",
            "must start with https://, http://, configmap:// or file:///",
        ),
        Rule(
            "!self.startsWith('configmap://') ||"
            " self.matches('^configmap://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[-._a-zA-Z0-9]+$')",
            "a configmap URI must be configmap://NAME/KEY, a ConfigMap in the same namespace",
        ),
        Rule(
            "!self.matches('^https?://') || self.matches('^https?://[^/?#@]+([/?#].*)?$')",
            "an http(s) URI must name a host and carry no user name or password",
        ),
        Rule("self != 'file:///'", "a file URI must name a file"),
    ]
    """Where it is: `https://`, `http://`, `configmap://NAME/KEY` (same namespace) or `file:///PATH` (in the image)."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """SHA-256 of the model, 64 lower-case hex digits. Verified before loading; a changed digest is a new revision."""
    name: Annotated[str, Field(max_length=63, pattern=r"^[a-zA-Z0-9]([-_.a-zA-Z0-9]*[a-zA-Z0-9])?$")] | None = None
    """Name in `/v2/models/{name}`. Default: the name of the ModelDeployment."""


class KeySelector(ApiModel):
    """A key of a Secret or ConfigMap in the same namespace."""

    name: ObjectName
    """Name of the object."""
    key: Annotated[str, Field(min_length=1, max_length=253, pattern=DATA_KEY_PATTERN)]
    """Key inside the object."""


class EnvVarSource(ApiModel):
    """Where the value of an environment variable comes from."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "has(self.secretKeyRef) != has(self.configMapKeyRef)",
                "exactly one of secretKeyRef and configMapKeyRef must be set",
            )
        )
    )

    secret_key_ref: KeySelector | None = None
    """A key of a Secret."""
    config_map_key_ref: KeySelector | None = None
    """A key of a ConfigMap."""


class EnvVar(ApiModel):
    """An environment variable of the server."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule("!(has(self.value) && has(self.valueFrom))", "value and valueFrom exclude each other")
        )
    )

    name: Annotated[
        str,
        Field(min_length=1, max_length=256, pattern=r"^[-._a-zA-Z][-._a-zA-Z0-9]*$"),
        Rule("!self.startsWith('ONCESERVE_')", "ONCESERVE_ variables belong to the operator; use the named fields"),
    ]
    """Name of the variable; `ONCESERVE_` is reserved."""
    value: Annotated[str, Field(max_length=32768)] | None = None
    """The value itself."""
    value_from: EnvVarSource | None = None
    """Where the value comes from."""


class Toleration(ApiModel):
    """A taint that the pods tolerate, as in a pod's spec."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
                "without a key, operator must be Exists",
            ),
            Rule(
                "!has(self.value) || !has(self.operator) || self.operator != 'Exists'", "operator Exists takes no value"
            ),
            Rule(
                "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
                "tolerationSeconds needs effect NoExecute",
            ),
        )
    )

    key: Annotated[str, Field(min_length=1, max_length=316)] | None = None
    """Taint key; absent matches all keys with operator Exists."""
    operator: Literal["Exists", "Equal"] | None = None
    """Exists or Equal (default)."""
    value: LabelValue | None = None
    """Taint value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Taint effect; absent matches all."""
    toleration_seconds: Int64 | None = None
    """Seconds that a NoExecute taint is tolerated."""


class LocalObjectReference(ApiModel):
    """An object in the same namespace."""

    name: ObjectName
    """Name of the object."""


class Resources(ApiModel):
    """Compute resources of a server, as in a container's spec."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                # Named resources, since a loop over any passes the cost that the API server allows a rule.
                "!has(self.requests) || !has(self.limits) || ['cpu', 'memory', 'ephemeral-storage'].all(name,"
                " !(name in self.requests) || !(name in self.limits) ||"
                " quantity(string(self.requests[name])).compareTo(quantity(string(self.limits[name]))) <= 0)",
                "a request must not exceed the limit of the same resource",
            )
        )
    )

    requests: Annotated[dict[str, Quantity], Field(max_length=16)] = Field(default_factory=dict)
    """Reserved per pod."""
    limits: Annotated[dict[str, Quantity], Field(max_length=16)] = Field(default_factory=dict)
    """Never exceeded by a pod."""


class Tls(ApiModel):
    """The certificate that the server shows."""

    secret_name: ObjectName
    """Secret of type kubernetes.io/tls in the same namespace. A renewed certificate is taken without a restart."""


class Server(ApiModel):
    """The pods that serve the model."""

    image: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    """Image of the server. Default: the one of the operator's release at the time the revision was made."""
    resources: Resources = Field(default_factory=Resources)
    """Compute resources of each pod. Without a CPU or memory request, 100m and 128Mi are requested."""
    threads: Annotated[int, Field(ge=1, le=256)] | None = None
    """onnxruntime intra-op threads of each pod. Default: its CPU limit, rounded up; without one, the node's CPUs."""
    tls: Tls | None = None
    """TLS of REST and gRPC. Default: none, as where a mesh encrypts."""
    node_selector: Annotated[dict[str, LabelValue], Field(max_length=32)] = Field(default_factory=dict)
    """Labels that a node must have."""
    tolerations: Annotated[list[Toleration], Field(max_length=32)] = Field(default_factory=list)
    """Taints that the pods tolerate. Those of a lost node (`node.kubernetes.io/not-ready` and `unreachable`) are
    tolerated for 30 s unless named here; then other nodes get the pods."""
    priority_class_name: ObjectName | None = None
    """PriorityClass of the pods."""
    service_account_name: ObjectName | None = None
    """An existing ServiceAccount. Default: one of its own, without any right and without a token."""
    image_pull_secrets: Annotated[list[LocalObjectReference], Field(max_length=16), ListMapKey("name")] = Field(
        default_factory=list
    )
    """Secrets to pull the image with."""
    env: Annotated[list[EnvVar], Field(max_length=64), ListMapKey("name")] = Field(default_factory=list)
    """Further environment variables, such as those of OpenTelemetry (`OTEL_…`)."""


class Batching(ApiModel):
    """Which requests go through the model together."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!has(self.maxBatchSize) || self.maxBatchSize > 1 ||"
                " !has(self.maxDelay) || duration(self.maxDelay) == duration('0s')",
                "maxDelay waits for nobody where maxBatchSize is 1",
            )
        )
    )

    max_batch_size: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """Rows that go through the model in one run; 1 runs every request alone. Default: 32.

    Without `maxDelay`, so do all requests to a model that does no more in the same time when rows go together.
    """
    max_delay: Annotated[Duration, at_most("60s")] | None = None
    """How long a request may wait for others to fill its batch. Default: 0s, so that a single request never waits."""


class Admission(ApiModel):
    """How many requests a pod takes, and how long they may wait."""

    max_concurrency: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """Requests of a pod that are decoded, batched and run at the same time; further ones queue. Default: 64."""
    max_queue: Annotated[int, Field(ge=0, le=1_048_576)] | None = None
    """Requests of a pod that may queue; further ones are answered 429 at once. Default: 256."""
    timeout: Annotated[PositiveDuration, at_most("24h")] | None = None
    """Time within which the run of a request must begin if its caller names no deadline; else 504. Default: 30s."""


class ApiKeys(ApiModel):
    """The keys of those who may call."""

    secret_name: ObjectName
    """Secret in the same namespace whose entries are hashes of keys, named after the keys' owners (`onceserve hash-key`
    makes them). Keys that come or go are taken without a restart."""


class Auth(ApiModel):
    """Who may call."""

    api_keys: ApiKeys
    """Calls need one of these keys; probes and metrics do not."""


class IdempotencyMode(StrEnum):
    """Which requests are answered exactly once."""

    REQUIRED = "Required"
    OPTIONAL = "Optional"
    DISABLED = "Disabled"


class StoreType(StrEnum):
    """What keeps the answers."""

    REDIS = "Redis"
    POSTGRESQL = "PostgreSQL"
    MEMORY = "Memory"


class StoreFailure(StrEnum):
    """What becomes of requests with a key while the store does not answer."""

    FAIL_CLOSED = "FailClosed"
    FAIL_OPEN = "FailOpen"


class Conflict(StrEnum):
    """What becomes of a request whose twin is still running."""

    REFUSE = "Refuse"
    WAIT = "Wait"


class StoreUrlSource(ApiModel):
    """Where the URL of a store comes from."""

    secret_key_ref: KeySelector
    """A key of a Secret: the URL has the password in it."""


class Store(ApiModel):
    """What keeps the answers."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                f"(self.type == '{StoreType.MEMORY}') != has(self.urlFrom)",
                "urlFrom must be set for Redis and PostgreSQL, and not for Memory",
            )
        )
    )

    type: StoreType
    """Redis (or Valkey), PostgreSQL, or Memory: one pod's, forgotten when it ends, as with each new revision."""
    url_from: StoreUrlSource | None = None
    """The URL: `redis://…`, `rediss://…`, `valkey://…`, `valkeys://…` or `postgresql://…`."""


_LEASE, _RETENTION = "30s", "24h"
"""The server's own defaults."""


class Idempotency(ApiModel):
    """Answering requests that carry an `Idempotency-Key` exactly once."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                f"has(self.store) || (has(self.mode) && self.mode == '{IdempotencyMode.DISABLED}')",
                "a store must be named, unless mode is Disabled",
            ),
            Rule(
                f"!has(self.mode) || self.mode != '{IdempotencyMode.DISABLED}' || !(has(self.store) ||"
                " has(self.lease) || has(self.retention) || has(self.whenStoreFails) || has(self.onConflict))",
                "with mode Disabled no other field may be set",
            ),
            Rule(
                f"duration(has(self.retention) ? self.retention : '{_RETENTION}').getMilliseconds() >="
                f" duration(has(self.lease) ? self.lease : '{_LEASE}').getMilliseconds() * 10",
                "retention must be at least 10 times the lease",
            ),
        )
    )

    mode: IdempotencyMode | None = None
    """Required (without a key: 400), Optional or Disabled. Default: Optional."""
    store: Store | None = None
    """What keeps the answers."""
    lease: Annotated[Duration, at_least("1s"), at_most("1h")] | None = None
    """Time after which a pod that says nothing more has lost its request to another. Default: 30s."""
    retention: Annotated[Duration, at_least("10s"), at_most("8784h")] | None = None
    """How long an answer is kept and replayed, up to 366 days. Default: 24h."""
    when_store_fails: StoreFailure | None = None
    """FailClosed (503, and nothing runs) or FailOpen (it runs, and a retry may run again). Default: FailClosed."""
    on_conflict: Conflict | None = None
    """Refuse (409 with Retry-After) or Wait for the answer of a request that is still running. Default: Refuse."""


class Gateway(ApiModel):
    """A Gateway through which the model is called, and which splits traffic exactly while a canary is rolled out."""

    name: ObjectName
    """Name of the Gateway."""
    namespace: ObjectName | None = None
    """Its namespace; its listener must allow routes from here. Default: that of the ModelDeployment."""
    section_name: ObjectName | None = None
    """Its listener. Default: every one that allows it."""
    hostnames: Annotated[list[HostName], Field(max_length=16)] = Field(default_factory=list)
    """Host names under which the model is called. Default: those of the listener."""


class Spread(StrEnum):
    """How strictly pods are spread over hosts and zones."""

    PREFERRED = "Preferred"
    REQUIRED = "Required"
    NONE = "None"


class Availability(ApiModel):
    """What voluntary disruptions, such as draining a node, may take away."""

    max_unavailable: IntOrPercentage = 1
    """Pods, or percentage of them, that a voluntary disruption may take at once."""
    spread: Spread = Spread.PREFERRED
    """Spread over hosts: Preferred, Required (a pod that cannot be spread stays pending) or None. Unless None,
    zones that have fewer pods are preferred too."""


class ModelDeploymentSpec(ApiModel):
    """The wanted state."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "self.replicas <= 1 || !has(self.idempotency) || !has(self.idempotency.store) ||"
                f" self.idempotency.store.type != '{StoreType.MEMORY}'",
                "replicas above 1 need an idempotency.store that they share: Redis or PostgreSQL",
            ),
            Rule(
                "!has(self.autoscaling) || self.autoscaling.maxReplicas <= 1 ||"
                " !has(self.idempotency) || !has(self.idempotency.store) ||"
                f" self.idempotency.store.type != '{StoreType.MEMORY}'",
                "autoscaling.maxReplicas above 1 needs an idempotency.store that replicas share: Redis or PostgreSQL",
            ),
        )
    )

    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """Number of serving pods. Written through /scale as well, as by autoscaling; leave it out where that is on."""
    model: Model
    """What is served."""
    server: Server = Field(default_factory=Server)
    """The pods that serve it."""
    batching: Batching = Field(default_factory=Batching)
    """Which requests go through the model together."""
    admission: Admission = Field(default_factory=Admission)
    """How many requests a pod takes, and how long they may wait."""
    auth: Auth | None = None
    """Who may call. Default: anybody who reaches the Service."""
    idempotency: Idempotency | None = None
    """Answering requests that carry an `Idempotency-Key` exactly once. Default: they are answered like any other."""
    autoscaling: Autoscaling | None = None
    """A number of replicas that follows the load. Default: it stays as it is set."""
    gateway: Gateway | None = None
    """A Gateway of the Gateway API through which the model is called too. Default: none."""
    rollout: Rollout = Field(default_factory=Rollout)
    """How a change reaches the pods."""
    availability: Availability = Field(default_factory=Availability)
    """What voluntary disruptions may take away."""


class RevisionStatus(ApiModel):
    """One revision, as it is in the cluster."""

    name: str
    """Name of its Deployment and ControllerRevision."""
    replicas: int
    """Pods it has."""
    ready: int
    """Pods of it that answer."""
    sha256: str | None = None
    """Digest that its model must have, where one is given."""
    image: str
    """Image of its pods."""
    created_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """When it was made (RFC 3339)."""


class ConditionStatus(StrEnum):
    """Status of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(ApiModel):
    """One aspect of the state, in the standard form of Kubernetes."""

    type: Annotated[str, Field(max_length=316)]
    """Name of the aspect."""
    status: ConditionStatus
    """True, False or Unknown."""
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """One CamelCase word for machines."""
    message: Annotated[str, Field(max_length=32768)]
    """A sentence for people."""
    last_transition_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """When the status last changed."""
    observed_generation: Int64 | None = None
    """Generation of the spec that this was computed from."""


def _unknown(kind: str) -> dict[str, Any]:
    return {
        "type": kind,
        "status": "Unknown",
        "reason": "Pending",
        "message": "Waiting for the operator",
        "lastTransitionTime": "1970-01-01T00:00:00Z",
    }


class ModelDeploymentStatus(ApiModel):
    """The state as it is, written by the operator alone."""

    # The API server sets these at creation: an object that no operator has seen says so.
    model_config = ConfigDict(
        json_schema_extra={"default": {"conditions": [_unknown("SpecAccepted"), _unknown("Ready")]}}
    )

    observed_generation: Int64 | None = None
    """Generation of the spec that this status is about."""
    replicas: int | None = None
    """Pods of all revisions."""
    ready_replicas: int | None = None
    """Pods that receive traffic and answer."""
    selector: str | None = None
    """Label selector of the pods, for /scale."""
    url: str | None = None
    """Where the model is served inside the cluster."""
    stable_revision: str | None = None
    """Revision that receives traffic."""
    target_revision: str | None = None
    """Revision that the spec asks for."""
    rollout: RolloutStatus | None = None
    """Where the change of revision stands."""
    revisions: Annotated[list[RevisionStatus], ListMapKey("name")] = Field(default_factory=list)
    """All revisions, newest first."""
    conditions: Annotated[list[Condition], ListMapKey("type")] = Field(default_factory=list)
    """Aspects of the state. Until an operator has seen the object, SpecAccepted and Ready are Unknown."""


class ModelDeployment(ApiModel):
    """A model served by replicated inference pods that answer every request exactly once by idempotency key."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                # A name never changes and the root always does: only at creation may this rule be asked.
                "oldSelf.hasValue() || (self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') &&"
                f" size(self.metadata.name) <= {MAX_NAME_LENGTH})",
                f"metadata.name must be at most {MAX_NAME_LENGTH} lower-case letters, digits and dashes,"
                " starting with a letter: it names the Service",
                optional_old_self=True,
            )
        )
    )

    spec: ModelDeploymentSpec
    """The wanted state."""
    status: ModelDeploymentStatus | None = None
    """The state as it is."""
