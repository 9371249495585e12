"""The release, upgraded to another version and rolled back, while clients call: no pod of a model notices."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devcluster.cluster import Cluster
from e2e.conftest import SYSTEM
from support import releases
from support.helm import Helm
from support.operators import Operators
from support.served import Served, serving
from support.unaffected import unaffected

NAMESPACE = "e2e-upgrade"
VERSION = "0.2.0"
READ_VERSION = "import importlib.metadata as m; print(m.version('onceserve'))"


@pytest.fixture(scope="module")
def served(installed: Cluster) -> Iterator[Served]:
    """The example in a namespace of its own."""
    with serving(installed, NAMESPACE) as example:
        yield example


@pytest.fixture(scope="module")
def helm(installed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    environment = {"KUBECONFIG": str(installed.kubeconfig), "HELM_NAMESPACE": SYSTEM}
    return Helm(installed.binary("helm"), tmp_path_factory.mktemp("helm"), environment)


@pytest.fixture
def chart(installed: Cluster, helm: Helm, tmp_path: Path) -> Iterator[Path]:
    """The chart of another version, whose operator all nodes have; afterwards the release is the former one again."""
    installed.load_images([releases.operator_image(VERSION, tmp_path)])
    revision = current(helm)
    yield releases.chart(VERSION, tmp_path, helm)
    helm("rollback", "onceserve", str(revision), "--wait", "--timeout=3m")


def current(helm: Helm) -> int:
    """Return the number of the release's revision."""
    return int(json.loads(helm("status", "onceserve", "--output=json"))["version"])


def standing(served: Served) -> dict[str, Any]:
    """Return what an upgrade of the operator must leave as it is."""
    deployments = served.get("deployments", f"--selector=onceserve.dev/modeldeployment={served.name}")["items"]
    return {
        "restarts": {
            pod["metadata"]["uid"]: [each["restartCount"] for each in pod["status"]["containerStatuses"]]
            for pod in served.every_pod()
        },
        "generations": {each["metadata"]["name"]: each["metadata"]["generation"] for each in deployments},
    }


def version(operators: Operators) -> str:
    """Return the version of the operator that leads."""
    name = operators.leader()["metadata"]["name"]
    python = ["--", "/opt/onceserve/bin/python", "-c", READ_VERSION]
    return operators.cluster.kubectl("exec", "-n", operators.namespace, name, *python).strip()


def server_image(served: Served, name: str) -> str:
    """Return the image of a new ModelDeployment."""
    served.apply(name, {"replicas": 0, "model": {"uri": "configmap://breast-cancer/model.onnx"}})
    served.wait("Ready", name=name)
    [deployment] = served.get("deployments", f"--selector=onceserve.dev/modeldeployment={name}")["items"]
    image: str = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    return image


def test_an_upgrade_and_a_rollback_of_the_operator_leave_all_pods_as_they_are(
    served: Served, helm: Helm, chart: Path
) -> None:
    operators = Operators(served.cluster, SYSTEM)
    old, before = version(operators), standing(served)
    assert old != VERSION
    assert list(before["restarts"].values()) == [[0]] * 3

    def upgrade() -> None:
        helm("upgrade", "onceserve", chart, "--reset-then-reuse-values", "--wait", "--timeout=3m")
        assert version(operators) == VERSION
        # It has looked at everything: this one comes from it, and has the server of its release.
        assert server_image(served, "new").endswith(f":{VERSION}")
        assert standing(served) == before

    def rollback() -> None:
        helm("rollback", "onceserve", "--wait", "--timeout=3m")
        assert version(operators) == old
        assert server_image(served, "newer").endswith(f":{old}")
        assert standing(served) == before

    unaffected(served, upgrade)
    unaffected(served, rollback)
