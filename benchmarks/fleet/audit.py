"""The operator's calls, as the API server's audit log has them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from support.audit import entries
from support.operator_process import USER

READING: Final = frozenset({"get", "list", "watch"})


def calls(log: Path, since: int) -> Counter[str]:
    """Return the operator's calls since a position, by verb and resource, such as `list pods`."""
    return counted(entries(log, since))


def counted(found: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Count each call of the operator once: a watch when it starts, as it may not end, all others when they end."""
    ours = (each for each in found if each["user"]["username"] == USER)
    ended = (each for each in ours if (each["stage"] == "ResponseStarted") == (each["verb"] == "watch"))
    return Counter(f"{each['verb']} {_resource(each['objectRef'])}" for each in ended)


def writes(found: Mapping[str, float]) -> float:
    """Return how many of them write anything but the lease."""
    return sum(number for call, number in found.items() if not _reads(call) and not call.endswith(" leases"))


def _reads(call: str) -> bool:
    return call.partition(" ")[0] in READING


def _resource(reference: Mapping[str, str]) -> str:
    return "/".join(filter(None, (reference["resource"], reference.get("subresource"))))
