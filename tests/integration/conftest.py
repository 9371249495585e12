"""A real control plane, started once for the whole session, and a namespace of its own for each test."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.config import new_client_from_config

from devcluster.cluster import Cluster, control_plane
from support.api_server import Api
from support.pods import answering

CRD = Path(__file__).parents[2] / "crds" / "modeldeployments.onceserve.dev.yaml"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane without nodes, and nothing of ours in it."""
    with control_plane("integration", tmp_path_factory.mktemp("integration") / "cluster") as started:
        yield started


@pytest.fixture(scope="session")
def api(cluster: Cluster) -> Iterator[Api]:
    """The API of the cluster, as its administrator."""
    with new_client_from_config(str(cluster.kubeconfig)) as client:
        yield Api(client)


@pytest.fixture(scope="session")
def definition(cluster: Cluster) -> dict[str, Any]:
    """The CRD as it is in the repository, installed as people install it: by client-side apply."""
    cluster.define(CRD, server_side=False)
    content: dict[str, Any] = yaml.safe_load(CRD.read_text())
    return content


@pytest.fixture(scope="session", autouse=True)
def pods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What answers the operator where pods would, in clusters that have no nodes."""
    with answering(tmp_path_factory.mktemp("pods")):
        yield


_numbers = count(1)


@pytest.fixture
def namespace(api: Api) -> Iterator[str]:
    """A namespace that no other test sees."""
    name = f"test-{next(_numbers)}"
    api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    api.delete(f"/api/v1/namespaces/{name}")
