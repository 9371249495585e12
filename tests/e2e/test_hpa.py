"""CPU autoscaling on real nodes: kubelets measure, a HorizontalPodAutoscaler decides, and no call fails meanwhile."""

import time
from collections.abc import Callable, Iterator

import pytest

from devcluster import metrics_server
from devcluster.cluster import Cluster
from support.loading import Load
from support.served import EXAMPLE, Served, await_ready_pods
from support.waiting import eventually

LEAST, MOST = 1, 3
SPEC = {
    "model": {"uri": "configmap://breast-cancer/model.onnx"},
    "server": {"resources": {"requests": {"cpu": "50m", "memory": "128Mi"}}},
    "autoscaling": {"metric": "CPU", "target": "50%", "minReplicas": LEAST, "maxReplicas": MOST},
}
BUSY = ("closed,new,3", "closed,keep-alive,3")
QUIET = ("open,new,4,10",)
SCALED_WITHIN = 180.0
"""Seconds. A kubelet looks at a pod every 10 to 15, metrics-server asks it every 10, the HorizontalPodAutoscaler asks
that every 5, and takes pods away when it has wanted to for 15."""


@pytest.fixture
def served(installed: Cluster, namespace: str) -> Served:
    """The example, scaled by its CPU."""
    example = Served(installed, namespace)
    example.kubectl("create", "configmap", "breast-cancer", f"--from-file={EXAMPLE / 'model.onnx'}")
    example.apply(example.name, SPEC)
    return example


@pytest.fixture
def measured(installed: Cluster) -> Iterator[Cluster]:
    """The cluster while it measures its pods."""
    say("metrics-server measures", seconds(lambda: metrics_server.install(installed)))
    yield installed
    metrics_server.remove(installed)


def test_pods_come_with_load_and_go_without_it(served: Served, measured: Cluster) -> None:
    served.wait_complete()
    until("it is measured", lambda: served.condition("ScalingActive").get("reason") == "ValidMetricFound")
    assert served.name in measured.kubectl("top", "pods", f"--namespace={served.namespace}")
    with served.running_load(*BUSY) as load:
        until("more pods are wanted", lambda: wanted(served) > LEAST)
        until("as many as may be are wanted", lambda: wanted(served) == MOST)
        pods = await_ready_pods(served, MOST)
        until("all pods take traffic", lambda: answering(load) == set(pods))
        assert served.condition("ScalingActive")["status"] == "True"
        assert load.end().failures == []
    with served.running_load(*QUIET) as load:
        until("fewer pods are wanted", lambda: wanted(served) < MOST)
        until("a pod is gone", lambda: len(served.every_pod()) < MOST)
        assert answering(load) <= set(pods)
        assert load.end().failures == []


def wanted(served: Served) -> int:
    """Return the number that the HorizontalPodAutoscaler has written."""
    replicas: int = served.get(f"mdep/{served.name}")["spec"]["replicas"]
    return replicas


def answering(load: Load) -> set[str]:
    """Return the pods that have answered since the last look; no call has failed since."""
    seen = load.mark()
    assert seen.failures == []
    return set(seen.pods)


def until(what: str, probe: Callable[[], bool]) -> None:
    """Wait until something has come to hold, and tell how long it took."""
    say(what, seconds(lambda: eventually(probe, what, SCALED_WITHIN, poll=1)))


def seconds(step: Callable[[], object]) -> float:
    began = time.monotonic()
    step()
    return time.monotonic() - began


def say(what: str, took: float) -> None:
    print(f"{what} after {took:.0f} s")
