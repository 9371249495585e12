"""What the operator may do, by its role, and what it did, by the API server's audit log."""

from typing import Any

import yaml

from devcluster.cluster import Cluster
from support.audit import entries
from support.operator_process import NAMESPACE, USER

Right = tuple[str, str]
"""Resource and verb."""


def requests(cluster: Cluster, namespace: str | None = None) -> list[dict[str, Any]]:
    """Return the operator's requests for objects."""
    ours = (entry for entry in entries(cluster.audit_log) if entry["user"]["username"] == USER)
    return [entry for entry in ours if namespace in {None, entry["objectRef"].get("namespace")}]


def granted(cluster: Cluster) -> set[Right]:
    """Return what the chart's roles allow."""
    everywhere = cluster.kubectl("get", "clusterrole", "onceserve-operator", "-o", "yaml")
    at_home = cluster.kubectl("get", "role", "onceserve-operator-lease", "-n", NAMESPACE, "-o", "yaml")
    rules = [rule for role in (everywhere, at_home) for rule in yaml.safe_load(role)["rules"]]
    return {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}


def used(cluster: Cluster) -> set[Right]:
    """Return what the operator has done so far; fail where it was forbidden something."""
    done = set()
    for entry in requests(cluster):
        answer, reference = entry.get("responseStatus", {}), entry["objectRef"]
        assert answer.get("code") != 403 or "being terminated" in answer["message"], entry
        subresource = f"/{reference['subresource']}" if "subresource" in reference else ""
        done.add((reference["resource"] + subresource, entry["verb"]))
    # Making an object by server-side apply is logged as a patch, and needs both verbs.
    return done | {(resource, "create") for resource, verb in done if verb == "patch" and "/" not in resource}
