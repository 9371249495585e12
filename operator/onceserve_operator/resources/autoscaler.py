"""The HorizontalPodAutoscaler, for what the kubelet measures of pods."""

from onceserve_operator.api.autoscaling import OF_PODS, Autoscaling
from onceserve_operator.api.v1alpha1 import API_VERSION, KIND
from onceserve_operator.domain import Manifest, Observed
from onceserve_operator.resources import labels, names
from onceserve_operator.resources.pod import CONTAINER


def manifest(observed: Observed, autoscaling: Autoscaling | None) -> Manifest | None:
    """Return the HorizontalPodAutoscaler that scales the ModelDeployment; None where none should."""
    if autoscaling is None or autoscaling.metric not in OF_PODS:
        return None
    key = observed.key
    utilization = {"type": "Utilization", "averageUtilization": int(autoscaling.target.rstrip("%"))}
    # Of the server alone: what is injected into its pods may request nothing, of which there are no percentages.
    measured = {"name": autoscaling.metric.value.lower(), "container": CONTAINER, "target": utilization}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": labels.metadata(observed, names.autoscaler(key), labels.standard(key)),
        "spec": {
            "scaleTargetRef": {"apiVersion": API_VERSION, "kind": KIND, "name": key.name},
            "minReplicas": autoscaling.min_replicas,
            "maxReplicas": autoscaling.max_replicas,
            "metrics": [{"type": "ContainerResource", "containerResource": measured}],
        },
    }
