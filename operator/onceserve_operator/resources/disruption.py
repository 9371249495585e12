"""The PodDisruptionBudget: how much a drained node may take away at once."""

from onceserve_operator.api.v1alpha1 import Availability
from onceserve_operator.domain import EVERYBODY, Manifest, Observed, Step
from onceserve_operator.resources import labels, names


def manifest(observed: Observed, step: Step, availability: Availability) -> Manifest:
    """Return the PodDisruptionBudget of the pods that get traffic; others may always go."""
    key = observed.key
    traffic = EVERYBODY if step.routed_weight else step.traffic
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": labels.metadata(observed, names.disruption_budget(key), labels.standard(key)),
        "spec": {
            "maxUnavailable": availability.max_unavailable,
            "selector": {"matchLabels": labels.of_traffic(key, traffic, step.front)},
            # A pod that does not answer protects nothing: it must not hold up the draining of its node.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
