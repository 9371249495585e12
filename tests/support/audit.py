"""The API server's audit log, and how long the operator took by that."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from devcluster.cluster import Cluster
from support.waiting import eventually

Entry = dict[str, Any]


def position(log: Path) -> int:
    """Return where what comes from now on will stand."""
    return log.stat().st_size


def entries(log: Path, since: int = 0) -> list[Entry]:
    """Return what was logged of requests for objects since a position."""
    with log.open("rb") as file:
        file.seek(since)
        # The last line may be half written.
        lines = file.read().split(b"\n")[:-1]
    return [entry for entry in map(json.loads, lines) if "objectRef" in entry]


class Answers:
    """What is written in the audit log from now on."""

    def __init__(self, cluster: Cluster) -> None:
        self._log = cluster.audit_log
        self._begun = position(self._log)

    def seconds(self, namespace: str, name: str) -> float:
        """Return the seconds from a person's write of a ModelDeployment to the operator's of its Deployment."""
        return eventually(lambda: self._seconds(namespace, name), f"{name} has a Deployment as wanted")

    def _seconds(self, namespace: str, name: str) -> float:
        there = [each for each in entries(self._log, self._begun) if each["objectRef"].get("namespace") == namespace]
        asked = next((each for each in there if _is_asked(each, name)), None)
        if asked is None:
            return 0
        begun = _moment(asked["requestReceivedTimestamp"])
        done = (_moment(each["stageTimestamp"]) for each in there if _is_done(each, name))
        return next((moment - begun for moment in done if moment > begun), 0)


def _is_asked(entry: Entry, name: str) -> bool:
    what = entry["objectRef"]
    return (
        entry["verb"] in {"create", "patch"}
        and (what["resource"], what.get("name")) == ("modeldeployments", name)
        and "kubectl" in entry.get("userAgent", "")
    )


def _is_done(entry: Entry, name: str) -> bool:
    what = entry["objectRef"]
    return (
        entry["verb"] == "patch"
        and what["resource"] == "deployments"
        and what.get("name", "").rpartition("-")[0] == name
        and "onceserve-operator" in entry.get("userAgent", "")
    )


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
