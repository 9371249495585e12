"""Types of `spec.autoscaling`."""

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from onceserve_operator.api.markers import DURATION_PATTERN, Rule, rules
from onceserve_operator.api.model import ApiModel


class ScalingMetric(StrEnum):
    """What the number of pods follows."""

    CONCURRENCY = "Concurrency"
    REQUESTS_PER_SECOND = "RequestsPerSecond"
    QUEUE_TIME = "QueueTime"
    CPU = "CPU"
    MEMORY = "Memory"


OF_PODS = frozenset({ScalingMetric.CPU, ScalingMetric.MEMORY})
"""Metrics that a HorizontalPodAutoscaler follows; the others are the operator's own."""

_FORMS = " || ".join(
    (
        "(self.metric in ['Concurrency', 'RequestsPerSecond'] && self.target.matches('^[0-9]{1,7}([.][0-9]{1,3})?$'))",
        f"(self.metric == 'QueueTime' && self.target.matches('{DURATION_PATTERN}'))",
        "(self.metric in ['CPU', 'Memory'] && self.target.matches('^[0-9]{1,3}%$'))",
    )
)


class Autoscaling(ApiModel):
    """A number of pods that follows the load."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule("self.minReplicas <= self.maxReplicas", "minReplicas must not exceed maxReplicas"),
            Rule(
                f"self.target.matches('[1-9]') && ({_FORMS})",
                "target must be above 0: a number for Concurrency and RequestsPerSecond, a duration such as 50ms for"
                " QueueTime, a percentage such as 80% for CPU and Memory",
            ),
        )
    )

    min_replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    """Pods that there are at least. Only a person scales to 0, which suspends autoscaling."""
    max_replicas: Annotated[int, Field(ge=1, le=1000)]
    """Pods that there are at most."""
    metric: ScalingMetric
    """What is counted for each pod: Concurrency (requests in work or waiting), RequestsPerSecond (that arrive) or
    QueueTime (how long requests wait for their run, on average); or, by a HorizontalPodAutoscaler, CPU or Memory."""
    target: Annotated[str, Field(min_length=1, max_length=32)]
    """How much of it a pod should have: `8`, `120.5`, `50ms`, or `80%` of what its container requests."""
