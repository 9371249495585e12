"""What the kubelet and the scheduler say of a pod, as a domain value."""

from datetime import datetime

from onceserve_contract import termination
from onceserve_contract.termination import FailureReason
from onceserve_operator.conditions import MOUNT_AWAITED
from onceserve_operator.domain import Manifest, Pod, Problem
from onceserve_operator.resources import labels
from onceserve_operator.resources.pod import CONTAINER

IMAGE_PULL_FAILED = "ImagePullFailed"
CONTAINER_REFUSED = "ContainerRefused"
CRASHED = "Crashed"
OUT_OF_MEMORY = "OutOfMemory"
UNSCHEDULABLE = "Unschedulable"

# A registry may be back in a moment.
_PASSING_PULL_REASONS = {"ErrImagePull", "ImagePullBackOff"}
_PULL_REASONS = {*_PASSING_PULL_REASONS, "InvalidImageName", "ErrImageNeverPull"}
_REFUSAL_REASONS = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
# An unreachable host may be back in a moment; the others need somebody to act.
_PASSING = {FailureReason.UNREACHABLE}
_NOT_ABOUT_MODEL = {FailureReason.INVALID_SETTINGS, FailureReason.STORE_REFUSED}


def is_over(pod: Manifest) -> bool:
    """Say whether a pod has ended for good, as an evicted one: it is replaced, and only its record is left."""
    return pod.get("status", {}).get("phase") in {"Failed", "Succeeded"}


def read(pod: Manifest) -> Pod:
    """Return a pod as far as decisions need it."""
    metadata = pod["metadata"]
    ready = _condition(pod, "Ready").get("status") == "True"
    leaving = "deletionTimestamp" in metadata
    return Pod(
        name=metadata["name"],
        revision=metadata.get("labels", {}).get(labels.REVISION, ""),
        # A leaving pod still answers while it drains, but must not be counted on.
        ready=ready and not leaving,
        leaving=leaving,
        gone_by=datetime.fromisoformat(metadata["deletionTimestamp"]) if leaving else None,
        uid=metadata.get("uid", ""),
        address=pod.get("status", {}).get("podIP", ""),
        problem=None if ready or leaving else _problem(pod),
    )


def _problem(pod: Manifest) -> Problem | None:
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return Problem(UNSCHEDULABLE, scheduled.get("message", "No node takes the pod"))
    container = _server_container(pod)
    return _never_started(container) or _ended(container) or _awaiting_secrets(pod)


def _never_started(container: Manifest) -> Problem | None:
    waiting = container.get("state", {}).get("waiting", {})
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason in _PULL_REASONS:
        # The kubelet alternates between two reasons and messages; the image is what a person needs.
        message = f"The image {container.get('image')} cannot be pulled"
        return Problem(IMAGE_PULL_FAILED, message, permanent=reason not in _PASSING_PULL_REASONS)
    if reason in _REFUSAL_REASONS:
        return Problem(CONTAINER_REFUSED, f"{reason}: {message}", permanent=True)
    return None


def _ended(container: Manifest) -> Problem | None:
    # Once it has started, what ended it before is history.
    started = "running" in container.get("state", {}) and container.get("started", False)
    ends = (container.get(field, {}).get("terminated") for field in ("state", "lastState"))
    end = next(filter(None, ends), None)
    if end is None or started:
        return None
    if failure := termination.decode(end.get("message", "")):
        about_model = failure.reason not in _NOT_ABOUT_MODEL
        return Problem(failure.reason, failure.message, failure.reason not in _PASSING, about_model)
    if end.get("reason") == "OOMKilled":
        return Problem(OUT_OF_MEMORY, "The server was killed for exceeding its memory limit")
    return Problem(CRASHED, f"The server ended with exit code {end.get('exitCode')}: {_last_line(end)}")


def _awaiting_secrets(pod: Manifest) -> Problem | None:
    """Name the Secrets without which the kubelet waits, without a word in the status and for as long as it takes."""
    # It makes the sandbox only when all volumes are mounted.
    if _condition(pod, "PodReadyToStartContainers").get("status") != "False":
        return None
    volumes = pod.get("spec", {}).get("volumes", [])
    names = [f"Secret {volume['secret']['secretName']}" for volume in volumes if "secret" in volume]
    if not names:
        return None
    return Problem(MOUNT_AWAITED, f"The pods start when what they mount is there: {' and '.join(names)}")


def _last_line(end: Manifest) -> str:
    lines = end.get("message", "").strip().splitlines()
    return lines[-1] if lines else "it left no message"


def _condition(pod: Manifest, kind: str) -> Manifest:
    conditions = pod.get("status", {}).get("conditions", [])
    return next((condition for condition in conditions if condition["type"] == kind), {})


def _server_container(pod: Manifest) -> Manifest:
    statuses = pod.get("status", {}).get("containerStatuses", [])
    return next((status for status in statuses if status["name"] == CONTAINER), {})
