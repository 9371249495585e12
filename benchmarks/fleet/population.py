"""ModelDeployments by the hundred, and the pods that nodes would report."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from support.api_server import Api
from support.modeldeployments import collection
from support.rollouts import Deployed
from support.waiting import eventually

NAMESPACES: Final = 10
CHANGES: Final = "fleet-changes"
"""Namespace of resources that come and go."""
PATIENCE: Final = 900.0
"""Seconds that anything may take."""
_OURS: Final = "labelSelector=onceserve.dev%2Fmodeldeployment"


def prepare(api: Api) -> None:
    """Make the namespaces."""
    for name in (CHANGES, *map(_namespace, range(NAMESPACES))):
        api.create("/api/v1/namespaces", {"metadata": {"name": name}})


def fill(api: Api, first: int, last: int, meanwhile: Callable[[], object]) -> None:
    """Make the resources of these numbers, with one pod each; return when all from 0 on are Ready."""
    spec = {"replicas": 1, "model": {"uri": "https://models.example/a.onnx"}}
    for number in range(first, last):
        Deployed.create(api, _namespace(number), spec, f"model-{number}")
        if number % 10 == 0:
            _report_pods(api)
            meanwhile()

    def done() -> bool:
        meanwhile()
        return _report_pods(api) == 0 and ready(api) >= last

    eventually(done, f"{last} are Ready", PATIENCE, poll=1)


def ready(api: Api) -> int:
    """Return how many resources are Ready."""
    resources = api.get(collection("").replace("/namespaces/", "")).body["items"]
    return sum(_is_ready(each) for each in resources)


def create_one(api: Api, name: str) -> float:
    """Make one more; return the seconds until it has its Deployment."""
    began = time.monotonic()
    spec = {"replicas": 0, "model": {"uri": "https://models.example/b.onnx"}}
    one = Deployed.create(api, CHANGES, spec, name)
    eventually(lambda: one.children("deployments"), "a Deployment", PATIENCE, poll=0.02)
    return time.monotonic() - began


def remove_changes(api: Api) -> None:
    """Remove what `create_one` made; return when all of it is gone."""
    api.delete(collection(CHANGES))
    paths = (f"/apis/apps/v1/namespaces/{CHANGES}/deployments?{_OURS}", collection(CHANGES))
    eventually(lambda: not any(api.get(path).body["items"] for path in paths), "they are gone", PATIENCE)


def _report_pods(api: Api) -> int:
    """Report the pods ready that are there by now; return how many."""
    pods = api.get(f"/api/v1/pods?{_OURS}&fieldSelector=status.podIP%3D").body["items"]
    for pod in pods:
        owner = pod["metadata"]["labels"]["onceserve.dev/modeldeployment"]
        Deployed(api, pod["metadata"]["namespace"], owner).report_ready([pod])
    return len(pods)


def _namespace(number: int) -> str:
    return f"fleet-{number % NAMESPACES}"


def _is_ready(resource: Mapping[str, Any]) -> bool:
    conditions = resource.get("status", {}).get("conditions", [])
    return any((each["type"], each["status"]) == ("Ready", "True") for each in conditions)
