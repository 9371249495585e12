"""`make demo` as a newcomer runs it: on a cluster of its own, and on one that is there already."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcluster.cluster import Cluster

ROOT = Path(__file__).parents[2]
NAME = "test-demo"
SAME_BYTES = "the same bytes: 5 of 5, of them replayed from the store and not run again: 5"
LOADS = re.compile(r"calls of clients that never retry: (\d+), failed: 0; answered by\n((?:    breast-cancer-.*\n)+)")
REFUSED = re.compile(r'WrongAnswer: .*output "label" at \[0\]: got 0, expected 1')
ACCURACY = "accuracy: 95.8% (137 of 143 held-out cases)"


def demo(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "demo", *arguments],
        env={
            **os.environ,
            "PYTHONPATH": ":".join(str(ROOT / each) for each in ("hack", "hack/cluster")),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment_of(cluster: Cluster) -> dict[str, str]:
    """Return what a person who has the cluster has set: its kubeconfig, and kubectl and helm on the path."""
    path = f"{cluster.binary('kubectl').parent}:{cluster.binary('helm').parent}:{os.environ['PATH']}"
    return {"KUBECONFIG": str(cluster.kubeconfig), "PATH": path}


def answering(output: str) -> list[int]:
    """Return how many calls each replica has answered, by what the demo printed."""
    lines = output.partition("answered by:")[2].splitlines()
    return [int(line.split()[-2]) for line in lines if line.rstrip().endswith(" calls")]


def assert_rolled_out(output: str) -> None:
    """By what the demo printed, a model has taken over and another was refused, and no call of many has failed."""
    taken_over, refused = [(int(calls), lines.splitlines()) for calls, lines in LOADS.findall(output)]
    assert (len(taken_over[1]), len(refused[1])) == (2, 1)
    assert min(taken_over[0], refused[0]) > 200
    assert REFUSED.search(output)


@pytest.fixture
def own() -> Iterator[Cluster]:
    cluster = Cluster(NAME)
    cluster.down()
    yield cluster
    cluster.down()


@pytest.mark.timeout(1800)
def test_on_a_cluster_of_its_own_twice_and_down(own: Cluster) -> None:
    begun = time.monotonic()
    first = demo("up", "--name", NAME)
    took = time.monotonic() - begun
    assert ACCURACY in first
    assert SAME_BYTES in first
    assert len(answering(first)) == 3
    assert sum(answering(first)) == 143
    assert_rolled_out(first)
    begun = time.monotonic()
    second = demo("up", "--name", NAME)
    assert ACCURACY in second
    assert SAME_BYTES in second
    assert_rolled_out(second)
    assert time.monotonic() - begun < took, "a cluster that is there is used again"
    demo("down", "--name", NAME)
    assert not own.exists


def test_on_a_cluster_with_onceserve_installed_it_is_used_and_left_alone(installed: Cluster) -> None:
    context = installed.kubectl("config", "current-context").strip()
    existing = environment_of(installed)
    shown = demo("up", "--context", context, "--images", "onceserve", **existing)
    assert "OnceServe is in namespace onceserve-system already" in shown
    assert ACCURACY in shown
    assert "exactly once is not shown" in shown
    assert_rolled_out(shown)
    demo("down", "--context", context, **existing)
    assert "onceserve-demo" not in installed.kubectl("get", "namespaces", "-o", "name")
    installed.kubectl("rollout", "status", "-n", "onceserve-system", "deployment/onceserve-operator", "--timeout=5s")


def test_an_existing_cluster_that_cannot_be_given_images_is_told_what_to_do(installed: Cluster) -> None:
    context = installed.kubectl("config", "current-context").strip()
    with pytest.raises(AssertionError, match="IMAGES=REGISTRY/PREFIX"):
        demo("up", "--context", context, **environment_of(installed))
