"""A real cluster of three nodes with the operator installed, once for the whole session."""

import json
import subprocess
from collections.abc import Generator, Iterator
from itertools import count
from pathlib import Path

import pytest

import images
from devcluster.cluster import Cluster
from support.served import Served

CHART = Path(__file__).parents[2] / "charts" / "onceserve"
NODES = 3
SYSTEM = "onceserve-system"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that make clusters of their own, while the machine has no other to carry."""
    here = Path(__file__).parent
    items.sort(key=lambda item: item.path.is_relative_to(here) and "installed" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A cluster with nodes that have the images."""
    made = Cluster("e2e")
    made.down()
    try:
        made.up(NODES)
        made.load_images(images.build())
        yield made
    finally:
        made.down()


@pytest.fixture(scope="session")
def installed(cluster: Cluster) -> Cluster:
    """The cluster with the operator, installed as people install it."""
    helm = [str(cluster.binary("helm")), f"--kubeconfig={cluster.kubeconfig}"]
    install = [
        "install",
        "onceserve",
        str(CHART),
        "--namespace",
        SYSTEM,
        "--create-namespace",
        "--wait",
        "--timeout=3m",
    ]
    done = subprocess.run([*helm, *install], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + operator_log(cluster)
    return cluster


_numbers = count(1)


@pytest.fixture
def namespace(installed: Cluster) -> Iterator[str]:
    """A namespace of its own, in which only pods of the restricted security standard are let in."""
    name = f"e2e-{next(_numbers)}"
    installed.kubectl("create", "namespace", name)
    installed.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    installed.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def served(installed: Cluster, namespace: str) -> Served:
    """The breast-cancer example, just applied."""
    example = Served(installed, namespace)
    example.create()
    return example


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what the cluster has to say of it, before the test's namespace goes."""
    report = yield
    example = getattr(item, "funcargs", {}).get("served")
    if report.when == "call" and report.failed and example is not None:
        report.sections += [("cluster", example.describe()), ("operator", operator_log(example.cluster))]
    return report


def operator_log(cluster: Cluster) -> str:
    """Return the last words of the operator's pods."""
    try:
        return cluster.kubectl(
            "logs", "-n", SYSTEM, "-l", "app.kubernetes.io/component=operator", "--prefix", "--tail=50"
        )
    except Exception as error:
        return json.dumps(str(error))
