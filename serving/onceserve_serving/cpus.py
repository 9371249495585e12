"""How many processors this process may use."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

CGROUPS: Final = Path("/sys/fs/cgroup")
OWN: Final = Path("/proc/self/cgroup")


def limit(own: Path = OWN, mount: Path = CGROUPS) -> int:
    """Return the processors that the affinity and the cgroup's quota leave, rounded up; at least 1."""
    allowed = len(os.sched_getaffinity(0))
    return max(1, min([allowed, *(math.ceil(quota) for quota in _quotas(own, mount))]))


def _quotas(own: Path, mount: Path) -> list[float]:
    quotas: list[float] = []
    for line in _read(own).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            quotas += _upwards(mount, path, _unified)
        elif "cpu" in controllers.split(","):
            quotas += _upwards(mount / "cpu", path, _legacy)
    return quotas


def _upwards(mount: Path, path: str, quota: Callable[[Path], float | None]) -> list[float]:
    """Return the quotas of a group and all above it, all of which hold; in a container its own is the mount."""
    group = mount / path.strip("/")
    groups = [group, *(parent for parent in group.parents if parent.is_relative_to(mount))]
    return [found for each in groups if (found := quota(each)) is not None]


def _unified(group: Path) -> float | None:
    match _read(group / "cpu.max").split():
        case [quota, period] if quota != "max":
            return int(quota) / int(period)
    return None


def _legacy(group: Path) -> float | None:
    quota, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
    # -1 is no quota.
    return int(quota) / int(period) if quota and period and int(quota) > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
