"""Autoscaling on a real API server with its controllers; stand-ins for pods tell how busy they are."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from devcluster.cluster import Cluster
from support.api_server import Api
from support.modeldeployments import collection, deployment
from support.operator_process import OperatorProcess, install_rights, running_operator
from support.pods import BUSY, INFLIGHT
from support.rights import granted, used
from support.rollouts import Deployed
from support.waiting import eventually, steadily

MODEL = {"uri": "https://models.example/a.onnx"}
CONCURRENCY = {"minReplicas": 2, "maxReplicas": 10, "metric": "Concurrency", "target": "8"}
CPU = {"minReplicas": 2, "maxReplicas": 10, "metric": "CPU", "target": "80%"}
SAMPLING = 2
DECISION = 4


@pytest.fixture(scope="module")
def operator(
    cluster: Cluster, definition: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    directory = tmp_path_factory.mktemp("autoscaling")
    with running_operator(install_rights(cluster, directory), directory, resync=5) as process:
        yield process


@pytest.fixture(autouse=True)
def idle() -> Iterator[None]:
    """Pods that have nothing to do."""
    INFLIGHT[BUSY] = 0
    yield
    INFLIGHT.clear()


def created(api: Api, namespace: str, autoscaling: dict[str, Any]) -> Deployed:
    """Create one without a number of replicas, and have its pods answer."""
    deployed = Deployed.create(api, namespace, {"model": MODEL, "autoscaling": autoscaling})
    deployed.complete(deployed.await_target(), BUSY)
    return deployed


def replicas(deployed: Deployed) -> int:
    wanted: int = deployed.read()["spec"]["replicas"]
    return wanted


def await_replicas(deployed: Deployed, number: int) -> None:
    eventually(lambda: replicas(deployed) == number, f"{number} replicas")


def follow(deployed: Deployed) -> None:
    """Have all pods that there are to be answer."""
    revision = deployed.status()["targetRevision"]
    deployed.await_pods(revision, replicas(deployed))
    deployed.follow(revision, BUSY)
    eventually(lambda: deployed.status()["readyReplicas"] == replicas(deployed), "all pods ready")


def test_the_minimum_comes_without_any_load(api: Api, namespace: str, operator: OperatorProcess) -> None:
    deployed = Deployed.create(api, namespace, {"model": MODEL, "autoscaling": CONCURRENCY})
    await_replicas(deployed, 2)
    eventually(lambda: ("Normal", "Scaled") in deployed.events(), "an Event")


def test_a_load_step_is_decided_in_time_and_told(api: Api, namespace: str, operator: OperatorProcess) -> None:
    deployed = created(api, namespace, CONCURRENCY)
    await_replicas(deployed, 2)
    follow(deployed)
    deployed.await_condition("ScalingActive", "True")
    steadily(lambda: replicas(deployed) == 2, "no load, no pods", 3)
    INFLIGHT[BUSY] = 40
    began = time.monotonic()
    eventually(lambda: replicas(deployed) > 2, "more pods")
    took = time.monotonic() - began
    print(f"decided after {took:.1f} s")
    assert took <= DECISION + SAMPLING
    await_replicas(deployed, 10)
    message = deployed.await_condition("ScalingActive", "True")
    assert message in {
        "The number of pods follows Concurrency, 8 each",
        "The load asks for fewer pods than minReplicas, 2",
        "The load asks for more pods than maxReplicas, 10",
    }
    assert operator.metric("onceserve_operator_scalings_total", direction="up") >= 2


def test_pods_that_tell_nothing_change_nothing(api: Api, namespace: str, operator: OperatorProcess) -> None:
    deployed = created(api, namespace, CONCURRENCY)
    await_replicas(deployed, 2)
    follow(deployed)
    INFLIGHT.clear()
    deployed.await_condition("ScalingActive", "False", "SamplesMissing")
    assert replicas(deployed) == 2
    INFLIGHT[BUSY] = 4
    deployed.await_condition("ScalingActive", "True")


def test_an_apply_without_replicas_leaves_them_alone(api: Api, namespace: str, operator: OperatorProcess) -> None:
    path = f"{collection(namespace)}/risk"
    applied = deployment({"model": MODEL, "autoscaling": CONCURRENCY})
    assert api.apply(path, applied, "people").accepted
    deployed = Deployed(api, namespace, "risk")
    await_replicas(deployed, 2)
    applied["spec"]["autoscaling"] = CONCURRENCY | {"maxReplicas": 12}
    assert api.apply(path, applied, "people").accepted
    steadily(lambda: replicas(deployed) == 2, "the number that autoscaling wrote", 2)


def test_what_a_person_scales_is_decided_again(
    api: Api, namespace: str, operator: OperatorProcess, cluster: Cluster
) -> None:
    deployed = created(api, namespace, CONCURRENCY)
    await_replicas(deployed, 2)
    cluster.kubectl("scale", "mdep/risk", "--replicas=1", "-n", namespace)
    await_replicas(deployed, 2)
    cluster.kubectl("scale", "mdep/risk", "--replicas=0", "-n", namespace)
    deployed.await_condition("ScalingActive", "False", "ScaledToZero")
    steadily(lambda: replicas(deployed) == 0, "nobody undoes it", 3)
    cluster.kubectl("scale", "mdep/risk", "--replicas=1", "-n", namespace)
    await_replicas(deployed, 2)


def test_cpu_is_left_to_a_horizontal_pod_autoscaler_and_taken_back(
    api: Api, namespace: str, operator: OperatorProcess, cluster: Cluster
) -> None:
    deployed = created(api, namespace, CPU)
    scaler = eventually(lambda: deployed.child("horizontalpodautoscalers", "risk"), "a HorizontalPodAutoscaler")
    reference = {"apiVersion": "onceserve.dev/v1alpha1", "kind": "ModelDeployment", "name": "risk"}
    assert scaler is not None
    assert scaler["spec"]["scaleTargetRef"] == reference
    # Kubernetes' own controller writes the minimum through /scale; without a metrics server it can do no more.
    await_replicas(deployed, 2)
    deployed.await_condition("ScalingActive", "False", "FailedGetContainerResourceMetric")
    deployed.change({"autoscaling": CONCURRENCY})
    eventually(lambda: deployed.child("horizontalpodautoscalers", "risk") is None, "it is gone")
    follow(deployed)
    INFLIGHT[BUSY] = 40
    await_replicas(deployed, 10)
    deployed.change({"autoscaling": CPU})
    eventually(lambda: deployed.child("horizontalpodautoscalers", "risk"), "it is back")
    cluster.kubectl("scale", "mdep/risk", "--replicas=5", "-n", namespace)
    INFLIGHT[BUSY] = 80
    steadily(lambda: replicas(deployed) <= 5, "one owner of the replicas", 5)
    deployed.change({"autoscaling": None})
    eventually(lambda: deployed.child("horizontalpodautoscalers", "risk") is None, "it is gone")
    eventually(lambda: deployed.condition("ScalingActive")[0] == "Missing", "nothing is said of scaling")


def test_the_chart_grants_what_autoscaling_needs_and_no_more(cluster: Cluster, operator: OperatorProcess) -> None:
    ours = {"horizontalpodautoscalers", "modeldeployments/scale"}
    assert {each for each in granted(cluster) if each[0] in ours} == {each for each in used(cluster) if each[0] in ours}
