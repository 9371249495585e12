"""The cgroups of a node's pods, in version 1 (one tree for each controller) and version 2 (one tree)."""

import contextlib
import errno
import os
from pathlib import Path

from devcluster.errors import ClusterError
from devcluster.wait import wait_until

MOUNTS = Path("/proc/self/mounts")
UNIFIED = Path("/sys/fs/cgroup")
NEEDED = {"cpu", "memory", "pids"}
USED = {*NEEDED, "cpuset", "hugetlb", "io"}


def hierarchies() -> list[Path]:
    """Return where cgroup trees are mounted; a hybrid machine has those of version 1 and an empty one of version 2."""
    mounts = [line.split() for line in MOUNTS.read_text().splitlines()]
    return sorted({Path(mount[1]) for mount in mounts if mount[2] in ("cgroup", "cgroup2")})


def is_unified() -> bool:
    """Say whether this machine is on version 2 alone."""
    return (UNIFIED / "cgroup.controllers").exists()


def missing_controllers() -> set[str]:
    """Return what this machine lacks for limiting pods."""
    if is_unified():
        return NEEDED - set((UNIFIED / "cgroup.controllers").read_text().split())
    mounts = [line.split() for line in MOUNTS.read_text().splitlines()]
    return NEEDED - {option for mount in mounts if mount[2] == "cgroup" for option in mount[3].split(",")}


def create(path: str) -> None:
    """Make a cgroup in every hierarchy, ready to have children with limits."""
    if is_unified():
        enable_controllers(UNIFIED)
    for hierarchy in hierarchies():
        current = hierarchy
        for part in Path(path.lstrip("/")).parts:
            current = current / part
            current.mkdir(exist_ok=True)
            _prepare(current)


def _prepare(cgroup: Path) -> None:
    if is_unified():
        enable_controllers(cgroup)
        return
    # An empty cpuset takes no process, and it does not inherit.
    for name in ("cpuset.cpus", "cpuset.mems"):
        file = cgroup / name
        if file.exists() and not file.read_text().strip():
            file.write_text((cgroup.parent / name).read_text())


def enable_controllers(cgroup: Path) -> None:
    """Give the children of a version 2 cgroup the controllers that pods use."""
    controllers = USED & set((cgroup / "cgroup.controllers").read_text().split())
    enabled = set((cgroup / "cgroup.subtree_control").read_text().split())
    wanted = " ".join(f"+{controller}" for controller in sorted(controllers - enabled))
    try:
        (cgroup / "cgroup.subtree_control").write_text(wanted)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        # The root that a container sees is no real root: it may have processes or controlled children, not both.
        _move_processes(cgroup, cgroup / "init")
        (cgroup / "cgroup.subtree_control").write_text(wanted)


def _move_processes(origin: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for pid in (origin / "cgroup.procs").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            (target / "cgroup.procs").write_text(pid)


def remove(path: str, timeout: float = 10) -> None:
    """Remove a cgroup with all below it, whose processes are dead already."""
    trees = [hierarchy / path.lstrip("/") for hierarchy in hierarchies()]
    if not wait_until(lambda: all(_remove_tree(tree) for tree in trees), timeout):
        left = [str(tree) for tree in trees if tree.exists()]
        raise ClusterError(f"these cgroups still have processes: {left}")


def _remove_tree(tree: Path) -> bool:
    for directory, _, _ in os.walk(tree, topdown=False):
        # Busy while the kernel still takes its last process apart.
        with contextlib.suppress(OSError):
            Path(directory).rmdir()
    return not tree.exists()


def remove_if_empty(path: str) -> None:
    """Remove a cgroup that has no children."""
    for hierarchy in hierarchies():
        with contextlib.suppress(OSError):
            (hierarchy / path.lstrip("/")).rmdir()
