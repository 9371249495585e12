"""How long the operator took, by the API server's own clock."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from devcluster.cluster import Cluster
from support.waiting import eventually

Entry = dict[str, Any]


class Answers:
    """What is written in the audit log from now on."""

    def __init__(self, cluster: Cluster) -> None:
        self._log = cluster.audit_log
        self._begun = self._log.stat().st_size

    def seconds(self, namespace: str, name: str, timeout: float) -> float:
        """Return the seconds from a person's write of a ModelDeployment to the operator's of its Deployment."""
        return eventually(lambda: self._seconds(namespace, name), f"{name} has a Deployment as wanted", timeout)

    def _seconds(self, namespace: str, name: str) -> float:
        entries = [each for each in self._entries() if each["objectRef"].get("namespace") == namespace]
        asked = next((each for each in entries if _is_asked(each, name)), None)
        if asked is None:
            return 0
        begun = _moment(asked["requestReceivedTimestamp"])
        done = (_moment(each["stageTimestamp"]) for each in entries if _is_done(each, name))
        return next((moment - begun for moment in done if moment > begun), 0)

    def _entries(self) -> Iterator[Entry]:
        with self._log.open() as log:
            log.seek(self._begun)
            lines = log.read().splitlines(keepends=True)
        # The last one may not be there in full.
        yield from (json.loads(line) for line in lines if line.endswith("\n") and '"objectRef"' in line)


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
