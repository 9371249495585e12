"""Types of `spec.rollout` and `status.rollout`."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field

from onceserve_operator.api.markers import (
    Decimal,
    Duration,
    IntOrPercentage,
    ListMapKey,
    PositiveDuration,
    Rule,
    Timestamp,
    rules,
)
from onceserve_operator.api.model import ApiModel


class Strategy(StrEnum):
    """How traffic comes to a new revision."""

    ROLLING_UPDATE = "RollingUpdate"
    CANARY = "Canary"
    BLUE_GREEN = "BlueGreen"


class RollingUpdate(ApiModel):
    """How many pods a change may add and take away, as in a Deployment."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!(string(self.maxSurge) in ['0', '0%'] && string(self.maxUnavailable) in ['0', '0%'])",
                "maxSurge and maxUnavailable must not both be 0: nothing could move",
            )
        )
    )

    max_surge: IntOrPercentage = "25%"
    """Pods, or percentage of replicas rounded up, that may exist beyond replicas."""
    max_unavailable: IntOrPercentage = 0
    """Pods, or percentage of replicas rounded down, that may be missing."""


class Pause(ApiModel):
    """A wait."""

    duration: PositiveDuration | None = None
    """How long. Default: until somebody promotes."""


class CanaryStep(ApiModel):
    """A weight or a wait."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule("has(self.weight) != has(self.pause)", "exactly one of weight and pause must be set")
        )
    )

    weight: Annotated[int, Field(ge=0, le=100)] | None = None
    """Percentage of traffic that the new revision gets: exact through a Gateway, else by its share of the pods."""
    pause: Pause | None = None
    """A wait: for a time, or until somebody promotes."""


class Canary(ApiModel):
    """Traffic in steps."""

    steps: Annotated[list[CanaryStep], Field(min_length=1, max_length=50)]
    """What is done in turn. After the last one the new revision gets all traffic."""


class Promotion(StrEnum):
    """Who has a verified revision given traffic."""

    AUTOMATIC = "Automatic"
    MANUAL = "Manual"


class BlueGreen(ApiModel):
    """All traffic at once, with the old pods kept for a while."""

    promotion: Promotion = Promotion.AUTOMATIC
    """Automatic, or Manual: a verified revision waits, reachable by the preview Service, until somebody promotes."""
    scale_down_delay: Duration = "30s"
    """How long the old pods stay after the switch, so that going back is instant."""


_DEEPEST = 16
"""Dimensions that a tensor may have, and so the lists in one another."""


def _values(data: list[Any]) -> list[Any]:
    level = [data]
    for _ in range(_DEEPEST):
        if any(isinstance(one, dict) for values in level for one in values):
            raise ValueError("holds an object, expected are numbers, strings, booleans, nulls or lists of them")
        level = [one for values in level for one in values if isinstance(one, list)]
        if not level:
            return data
    raise ValueError(
        f"lists are nested more than {_DEEPEST} deep, expected are values flat or by the tensor's dimensions"
    )


class Tensor(ApiModel):
    """A tensor as the Open Inference Protocol writes it."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    """Name of the input or output."""
    datatype: Annotated[str, Field(pattern=r"^(BOOL|U?INT(8|16|32|64)|FP(16|32|64)|BYTES)$")]
    """Datatype, such as FP32."""
    shape: Annotated[list[Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})]], Field(max_length=16)]
    """Dimensions."""
    data: Annotated[
        list[Annotated[Any, Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]],
        AfterValidator(_values),
    ]
    """Values, flat or nested; null stands for no number."""


class GoldenRequest(ApiModel):
    """A request whose answer is known."""

    inputs: Annotated[list[Tensor], Field(min_length=1, max_length=64)]
    """What is asked."""
    expected: Annotated[list[Tensor], Field(max_length=64)] = Field(default_factory=list)
    """What must be answered; further outputs are not looked at. Default: finite numbers in the shape of the model."""
    tolerance: Decimal = "0"
    """How far a number may be from the expected one, absolute and relative: |a - e| ≤ tolerance × (1 + |e|)."""


class MetricName(StrEnum):
    """What is measured of answered requests."""

    ERROR_RATE = "ErrorRate"
    LATENCY_P50 = "LatencyP50"
    LATENCY_P90 = "LatencyP90"
    LATENCY_P99 = "LatencyP99"


class MetricCheck(ApiModel):
    """A bound that the new revision must hold while it gets traffic, as its own pods measure it."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule("has(self.max) || has(self.maxOfStable)", "max or maxOfStable must be set"),
            Rule(
                "!has(self.max) || (self.name == 'ErrorRate' ? self.max.matches('^(0([.][0-9]+)?|1([.]0+)?)$') :"
                " self.max.matches('^([0-9]{1,5}(h|m|s|ms)){1,4}$'))",
                'max must be a share such as "0.01" for ErrorRate, and a duration such as 50ms for a latency',
            ),
        )
    )

    name: MetricName
    """ErrorRate (share of requests that the server could not answer, 5xx), LatencyP50, LatencyP90 or LatencyP99."""
    max: Annotated[str, Field(min_length=1, max_length=32)] | None = None
    """The most it may be."""
    max_of_stable: Annotated[str, Field(pattern=r"^[1-9][0-9]{1,4}%$")] | None = None
    """The most it may be as a percentage of what the old revision has at the same time: `150%`. Where that has no error
    at all, none is allowed."""
    min_samples: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    """Requests that a revision must have answered before it is judged."""


class PrometheusQuery(ApiModel):
    """A query whose result must hold a bound."""

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z]([-A-Za-z0-9]*[A-Za-z0-9])?$")]
    """What people call it."""
    query: Annotated[str, Field(min_length=1, max_length=4096)]
    """PromQL with one number as its result. `$namespace`, `$name`, `$revision` and `$stable` are filled in."""
    max: Decimal
    """The most that the number may be. No result, or one that is not a number, is not judged."""


class Prometheus(ApiModel):
    """A Prometheus that is asked while traffic shifts."""

    url: Annotated[str, Field(max_length=2048, pattern=r"^https?://[^/?#@\s]+(/[^?#\s]*)?$")]
    """Where it is: `http://prometheus.monitoring:9090`."""
    queries: Annotated[list[PrometheusQuery], Field(min_length=1, max_length=16), ListMapKey("name")]
    """What it is asked."""


class Verification(ApiModel):
    """What a revision must show. That its model runs on an example of its own inputs is always asked."""

    requests: Annotated[list[GoldenRequest], Field(max_length=16)] = Field(default_factory=list)
    """Golden requests, asked of new pods before they get traffic."""
    metrics: Annotated[list[MetricCheck], Field(max_length=8), ListMapKey("name")] = Field(default_factory=list)
    """Bounds that hold while traffic shifts."""
    prometheus: Prometheus | None = None
    """Bounds that a Prometheus knows of. Default: none."""


def _only_with(field: str, *strategies: Strategy) -> Rule:
    names = " or ".join(strategies)
    allowed = ", ".join(f"'{strategy}'" for strategy in strategies)
    return Rule(
        f"!has(self.{field}) || (has(self.strategy) ? self.strategy : '{Strategy.ROLLING_UPDATE}') in [{allowed}]",
        f"{field} acts with strategy {names} alone",
    )


class Rollout(ApiModel):
    """How a change reaches the pods."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            _only_with("rollingUpdate", Strategy.ROLLING_UPDATE, Strategy.CANARY),
            _only_with("canary", Strategy.CANARY),
            _only_with("blueGreen", Strategy.BLUE_GREEN),
            Rule(
                "!has(self.strategy) || self.strategy != 'Canary' || has(self.canary)", "strategy Canary needs canary"
            ),
        )
    )

    strategy: Strategy = Strategy.ROLLING_UPDATE
    """RollingUpdate (pod by pod), Canary (in steps) or BlueGreen (all at once)."""
    rolling_update: RollingUpdate | None = None
    """Pods that RollingUpdate and Canary may add and take away. Default: 25 % more, none missing."""
    canary: Canary | None = None
    """Steps of Canary."""
    blue_green: BlueGreen | None = None
    """How BlueGreen switches. Default: Automatic, and the old pods stay 30s."""
    verification: Verification = Field(default_factory=Verification)
    """What a revision must show before and while it gets traffic."""
    progress_deadline: PositiveDuration = "10m"
    """How long a rollout may make no progress before it is aborted and the old revision is back."""
    revision_history_limit: Annotated[int, Field(ge=0, le=100)] = 5
    """Former revisions kept at 0 replicas, so that going back to one is only scaling."""


class Refusal(ApiModel):
    """A revision that is not tried again until the spec changes or a retry is asked for."""

    revision: str
    """Which."""
    reason: str
    """One CamelCase word for machines."""
    message: str
    """A sentence for people."""


class RolloutStatus(ApiModel):
    """Where the change of revision stands."""

    phase: str
    """Preparing, Verifying, Shifting, Paused, Finalizing, Aborting, Aborted or Stable."""
    revision: str | None = None
    """Revision that is on its way."""
    step: int | None = None
    """Number of the step that it is at, from 1."""
    weight: int | None = None
    """Percentage of traffic that it gets."""
    started_at: Timestamp | None = None
    """When the rollout began."""
    step_started_at: Timestamp | None = None
    """When the phase or step began."""
    progressed_at: Timestamp | None = None
    """When it last came nearer to its end, or lost pods in a pause: the progress deadline counts from here."""
    ready: int | None = None
    """Pods of it that have been ready and verified at most: one more is progress."""
    held: str | None = None
    """Phase in which somebody paused it by command, and in which it goes on."""
    rollback_to: str | None = None
    """Revision that somebody went back to by command."""
    refused: Annotated[list[Refusal], ListMapKey("revision")] = Field(default_factory=list)
    """Revisions that failed or were aborted."""
    command: str | None = None
    """Value of the annotation `onceserve.dev/command` that was last heeded; of a long one its digest."""
    taken: str | None = None
    """Steps up to the one that it is at, as they were then: where they change, it goes back to what fits."""
    message: str
    """What is awaited, in words, and until when."""
