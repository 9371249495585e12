"""A ModelDeployment that people apply again and again, and who owns its number of replicas."""

from collections.abc import Sequence
from typing import Any

import yaml

from support.served import Served

BY_PEOPLE = ("--server-side", "--field-manager=people", "--force-conflicts")
ON_THE_CLIENT = ("--server-side=false",)
HANDOVER = ("--server-side", "--field-manager=handover", "--validate=false")


class Manifest:
    """What people apply; its `spec` is of all versions of it."""

    def __init__(self, served: Served, spec: dict[str, Any]) -> None:
        self._served = served
        self._spec = spec

    def apply(self, how: Sequence[str] = BY_PEOPLE, **spec: Any) -> None:
        """Apply it with these fields besides."""
        self._run(("apply", *how), {**self._spec, **spec})

    def hand_over(self, replicas: int) -> None:
        """Have the number of replicas belong to somebody besides, as docs/autoscaling.md says."""
        self._run(("apply", *HANDOVER), {"replicas": replicas})

    def forget(self) -> None:
        """Have the next apply on the client know of no other fields, as docs/autoscaling.md says."""
        self._run(("apply", "set-last-applied"), self._spec)

    def owners(self) -> list[tuple[str, str]]:
        """Return who owns the number of replicas, each with the subresource by which it was written."""
        entries = self._served.get(f"mdep/{self._served.name}", "--show-managed-fields")["metadata"]["managedFields"]
        ours = (entry for entry in entries if "f:replicas" in entry["fieldsV1"].get("f:spec", {}))
        return [(entry["manager"], entry.get("subresource", "")) for entry in ours]

    def _run(self, command: Sequence[str], spec: dict[str, Any]) -> None:
        kind = {"apiVersion": "onceserve.dev/v1alpha1", "kind": "ModelDeployment"}
        manifest = {**kind, "metadata": {"name": self._served.name}, "spec": spec}
        self._served.kubectl(*command, "--filename=-", stdin=yaml.safe_dump(manifest))
