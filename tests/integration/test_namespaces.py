"""An operator that is limited to namespaces, with the Roles that the chart gives it there and no right elsewhere."""

from pathlib import Path
from typing import Any

import yaml

from devcluster.cluster import Cluster
from support.api_server import Api
from support.operator_process import install_rights, running_operator
from support.rollouts import Deployed
from support.waiting import eventually, steadily

SPEC: dict[str, Any] = {"model": {"uri": "https://models.example/a.onnx"}}
SERVED, OTHER = ("team-a", "team-b"), "team-c"


def test_it_serves_its_namespaces_and_no_other(
    cluster: Cluster, api: Api, definition: dict[str, Any], tmp_path: Path
) -> None:
    for namespace in (*SERVED, OTHER):
        api.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
    values = yaml.safe_dump({"watchNamespaces": list(SERVED), "rbac": {"aggregate": False}})
    kubeconfig = install_rights(cluster, tmp_path, release="limited", values=values)
    with running_operator(kubeconfig, tmp_path, 1.0, ONCESERVE_OPERATOR_NAMESPACES=",".join(SERVED)) as operator:
        served = [Deployed.create(api, namespace, SPEC) for namespace in SERVED]
        other = Deployed.create(api, OTHER, SPEC)
        for deployed in served:
            revision = deployed.await_target()
            deployed.report_ready(deployed.await_pods(revision, 1))
            deployed.await_condition("Ready", "True")
        before = operator.metric("onceserve_operator_resync_total")
        eventually(lambda: operator.metric("onceserve_operator_resync_total") > before + 1, "two resyncs")
        steadily(lambda: other.children("deployments") == [], "nothing is made elsewhere", 1)
        assert "targetRevision" not in other.status()
        # A resync heals what the watch has missed in every namespace, not only in the last one listed.
        steadily(lambda: all(each.condition("Ready")[0] == "True" for each in served), "both stay ready", 2)
