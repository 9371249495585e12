"""The message that a model server leaves when it cannot serve.

The server writes it as one JSON object into its termination log; the kubelet copies it into the pod's status, where the
operator reads it. No connection between operator and pod is needed, and a crash-looping pod still says why.
"""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum


class FailureReason(StrEnum):
    """Why a model could not be served; the same words stand in the conditions."""

    NOT_FOUND = "NotFound"
    ACCESS_DENIED = "AccessDenied"
    UNREACHABLE = "Unreachable"
    DIGEST_MISMATCH = "DigestMismatch"
    LOAD_FAILED = "LoadFailed"
    INVALID_SETTINGS = "InvalidSettings"
    STORE_REFUSED = "StoreRefused"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a server ended before it served: a reason for machines and a message for people."""

    reason: FailureReason
    message: str


MAX_BYTES = 4096
"""The kubelet keeps no more of a termination message."""


def encode(failure: Failure) -> str:
    """Return the termination message of a failure, shortened to what the kubelet keeps."""
    text = json.dumps(asdict(failure))
    excess = len(text.encode()) - MAX_BYTES
    if excess <= 0:
        return text
    # Every dropped character frees at least one byte, and the ellipsis takes six.
    return json.dumps({"reason": failure.reason, "message": failure.message[: -(excess + 6)] + "…"})


def decode(text: str) -> Failure | None:
    """Return the failure that a termination message carries, or None where it is not one of ours."""
    try:
        raw = json.loads(text)
        return Failure(FailureReason(raw["reason"]), str(raw["message"]))
    except (ValueError, KeyError, TypeError):
        return None
