"""What people may ask for: revisions of different quality, by different strategies."""

from enum import Enum, auto
from functools import cache
from typing import Any, Final

from onceserve_operator.api.v1alpha1 import ModelDeploymentSpec
from onceserve_operator.domain import Revision


class Quality(Enum):
    """What the pods of a revision are like."""

    GOOD = auto()
    UNREADY = auto()
    WRONG = auto()
    """They answer golden requests wrongly."""
    SILENT = auto()
    """They do not answer the operator."""
    SLOW = auto()
    MIXED = auto()
    """Its later pods have loaded another model."""


QUALITIES: Final = {
    "a": Quality.GOOD,
    "b": Quality.GOOD,
    "c": Quality.GOOD,
    "tls": Quality.GOOD,
    "unready": Quality.UNREADY,
    "wrong": Quality.WRONG,
    "silent": Quality.SILENT,
    "slow": Quality.SLOW,
    "mixed": Quality.MIXED,
}

WISHES: Final = (*"abcabc", *QUALITIES)
SURGING: Final = {"rollingUpdate": {"maxSurge": 1}}
PAUSES: Final = [{"weight": 20}, {"pause": {"duration": "30s"}}, {"weight": 50}, {"pause": {}}, {"weight": 75}]
CANARY: Final = {"strategy": "Canary", "canary": {"steps": PAUSES}}
ROLLOUTS: Final[tuple[dict[str, Any], ...]] = (
    SURGING,
    {},
    {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
    {"rollingUpdate": {"maxSurge": 2, "maxUnavailable": 1}, "progressDeadline": "1m"},
    {"rollingUpdate": {"maxSurge": "100%", "maxUnavailable": "50%"}},
    CANARY,
    {**CANARY, **SURGING},
    {**CANARY, "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 2}},
    {"strategy": "Canary", "canary": {"steps": [{"weight": 0}, {"pause": {"duration": "1m"}}, {"weight": 60}]}},
    {"strategy": "Canary", "canary": {"steps": [{"pause": {}}, {"weight": 90}, {"weight": 10}, {"weight": 100}]}},
    {"strategy": "BlueGreen"},
    {"strategy": "BlueGreen", "blueGreen": {"scaleDownDelay": "0s"}, "progressDeadline": "1m"},
    {"strategy": "BlueGreen", "blueGreen": {"promotion": "Manual", "scaleDownDelay": "5m"}},
)
REPLICAS: Final = (3, 0, 1, 2, 4, 7)


@cache
def revision(name: str) -> Revision:
    """Return a revision as it is stored."""
    probe = {"httpGet": {"scheme": "HTTPS" if name == "tls" else "HTTP"}}
    return Revision(name, 1, {"spec": {"containers": [{"image": "server", "readinessProbe": probe}]}})


@cache
def specification(replicas: int, rollout: int, routed: bool) -> ModelDeploymentSpec:
    gateway = {"gateway": {"name": "front"}} if routed else {}
    model = {"uri": "https://models.example/a.onnx"}
    given = {"replicas": replicas, "model": model, "rollout": ROLLOUTS[rollout], **gateway}
    return ModelDeploymentSpec.model_validate(given)
