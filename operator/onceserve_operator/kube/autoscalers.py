"""What a live HorizontalPodAutoscaler tells, as a domain value."""

from onceserve_operator.domain import Manifest, Scaling

PENDING = "Pending"


def read(autoscaler: Manifest) -> Scaling:
    """Return whether it can act: whether it may set the number of pods, and knows what for."""
    told = {each["type"]: each for each in autoscaler.get("status", {}).get("conditions", [])}
    judged = [told[kind] for kind in ("AbleToScale", "ScalingActive") if kind in told]
    if not judged:
        return Scaling(None, PENDING, "The HorizontalPodAutoscaler has not been looked at yet")
    problem = next((each for each in judged if each["status"] != "True"), None)
    decisive = problem or judged[-1]
    active = None if decisive["status"] == "Unknown" else problem is None
    return Scaling(active, decisive["reason"], decisive.get("message", ""))
