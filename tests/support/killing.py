"""SIGKILL to what runs in a pod of a cluster on this machine: no container runtime and no kubelet has a say in it."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SANDBOX = "pause"


def kill(pod: dict[str, Any]) -> int:
    """Kill every process of a pod's containers; return how many there were."""
    pids = list(processes(pod["metadata"]["uid"]))
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(pids)


def processes(uid: str) -> Iterator[int]:
    """Return the processes of a pod's containers."""
    for process in Path("/proc").glob("[0-9]*"):
        # One may end while it is looked at.
        with contextlib.suppress(OSError):
            if f"pod{uid}" in (process / "cgroup").read_text() and (process / "comm").read_text().strip() != SANDBOX:
                yield int(process.name)
