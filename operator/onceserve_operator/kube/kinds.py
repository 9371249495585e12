"""The kinds of objects that the operator reads and writes."""

from dataclasses import dataclass

from onceserve_operator.api import v1alpha1
from onceserve_operator.domain import Key, Manifest
from onceserve_operator.resources import labels


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind as the API addresses it."""

    group: str
    version: str
    kind: str
    plural: str

    @property
    def api_version(self) -> str:
        """The `apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version


MODEL_DEPLOYMENT = Kind(v1alpha1.GROUP, v1alpha1.VERSION, v1alpha1.KIND, v1alpha1.PLURAL)
DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments")
CONTROLLER_REVISION = Kind("apps", "v1", "ControllerRevision", "controllerrevisions")
SERVICE = Kind("", "v1", "Service", "services")
SERVICE_ACCOUNT = Kind("", "v1", "ServiceAccount", "serviceaccounts")
DISRUPTION_BUDGET = Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
AUTOSCALER = Kind("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
POD = Kind("", "v1", "Pod", "pods")
EVENT = Kind("", "v1", "Event", "events")

HTTP_ROUTE = Kind("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes")

# A route goes before the Services that it leads to.
OWNED = (HTTP_ROUTE, DEPLOYMENT, CONTROLLER_REVISION, SERVICE, SERVICE_ACCOUNT, DISRUPTION_BUDGET, AUTOSCALER)
"""Kinds that are written, and pruned when no longer wanted."""
OPTIONAL = frozenset({HTTP_ROUTE})
"""Kinds that a cluster may lack, or get or lose at any time; a watch of what is not there would fail."""
LISTED = (MODEL_DEPLOYMENT, *OWNED, POD)
"""Kinds that are known as of the last listing."""
WATCHED = tuple(kind for kind in LISTED if kind not in OPTIONAL)
"""Kinds whose changes lead to a pass."""

_BY_NAME = {(kind.api_version, kind.kind): kind for kind in LISTED}


def of(manifest: Manifest) -> Kind:
    """Return the kind of an object."""
    return _BY_NAME[manifest["apiVersion"], manifest["kind"]]


def selector(kind: Kind) -> str | None:
    """Return the label selector that narrows a kind to what concerns us; None for our own resource."""
    return None if kind == MODEL_DEPLOYMENT else labels.MODEL_DEPLOYMENT


def owner(kind: Kind, manifest: Manifest) -> Key | None:
    """Return the ModelDeployment that an object is, or says it belongs to."""
    metadata = manifest["metadata"]
    name = metadata["name"] if kind == MODEL_DEPLOYMENT else metadata.get("labels", {}).get(labels.MODEL_DEPLOYMENT)
    return Key(metadata["namespace"], name) if name else None
