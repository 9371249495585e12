"""A model behind a Gateway, on a real API server; tests report in place of the Gateway's controller."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.config import new_client_from_config

from devcluster import gateway_api
from devcluster.cluster import Cluster, control_plane
from support.api_server import Api
from support.operator_process import install_rights, running_operator
from support.rights import granted, used
from support.rollouts import Deployed
from support.waiting import eventually, steadily

ROOT = Path(__file__).parents[2]
CRD = ROOT / "crds" / "modeldeployments.onceserve.dev.yaml"
ROUTES = gateway_api.definitions() / "gateway.networking.k8s.io_httproutes.yaml"
EXAMPLE: dict[str, Any] = yaml.safe_load((ROOT / "examples" / "canary-gateway.yaml").read_text())["spec"]
STEPS = [{"weight": 5}, {"pause": {}}, {"weight": 50}, {"pause": {}}]
SPEC: dict[str, Any] = {
    "replicas": 3,
    "model": {"uri": "https://models.example/a.onnx"},
    "gateway": EXAMPLE["gateway"],
    "rollout": {"strategy": "Canary", "canary": {"steps": STEPS}},
}
OTHER_MODEL = {"model": {"uri": "https://models.example/b.onnx"}}
RESYNC = 1.0

_commands = count(1)


class Routed(Deployed):
    """A ModelDeployment behind a Gateway."""

    def weights(self) -> dict[str, int]:
        """Return the percentages that the route gives each Service; none where there is no route."""
        route = self.child("httproutes", self.name)
        backends = route["spec"]["rules"][0]["backendRefs"] if route else ()
        return {each["name"]: each["weight"] for each in backends}

    def preview(self) -> str:
        """Return the revision that the preview Service reaches."""
        service = self.child("services", f"{self.name}-preview")
        assert service is not None
        revision: str = service["spec"]["selector"]["onceserve.dev/revision"]
        return revision

    def split(self) -> tuple[str | None, str, dict[str, int]]:
        """Return what the Service reaches, what the preview reaches, and the weights."""
        return self.routed_revision(), self.preview(), self.weights()

    def command(self, verb: str) -> None:
        """Command the rollout as people do."""
        annotations = {"onceserve.dev/command": f"{verb} {next(_commands)}"}
        assert self.api.merge(self.path, {"metadata": {"annotations": annotations}}).accepted

    def begin(self) -> tuple[str, str]:
        """Ask for another model, have its first pods answer; return the old revision and the new one."""
        first = self.await_target()
        self.change(OTHER_MODEL)
        second = self.await_target(other_than=first)
        eventually(lambda: self._arrived(second), "pods of the new revision")
        return first, second

    def _arrived(self, revision: str) -> bool:
        self.follow(revision)
        return bool(self.status()["rollout"]["phase"] == "Paused")

    def answer(self, *conditions: tuple[str, str, str, str], gateway: str = "public") -> None:
        """Report, as a Gateway's controller would, what it makes of the route: type, status, reason, message."""
        fields = ("type", "status", "reason", "message")
        since = {"lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}
        parent = {**EXAMPLE["gateway"], "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": gateway}
        parent.pop("hostnames")
        told = [dict(zip(fields, each, strict=True)) | since for each in conditions]
        answer = {"parentRef": parent, "controllerName": "example.com/gateways", "conditions": told}
        self.change_child("httproutes", f"{self.name}/status", {"status": {"parents": [answer]}})


def created(api: Api, namespace: str) -> Routed:
    """Create one, have its pods answer."""
    deployed = Routed.create(api, namespace, SPEC)
    deployed.complete(deployed.await_target())
    return deployed


@contextmanager
def bare(directory: Path) -> Iterator[tuple[Cluster, Api]]:
    """Have a control plane of its own, with our definition alone."""
    with control_plane("gateway", directory / "cluster") as cluster:
        cluster.define(CRD)
        with new_client_from_config(str(cluster.kubeconfig)) as client:
            yield cluster, Api(client)


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Api]]:
    """A cluster with the Gateway API, and the operator."""
    directory = tmp_path_factory.mktemp("gateways")
    with bare(directory) as (cluster, api):
        cluster.define(ROUTES)
        with running_operator(install_rights(cluster, directory), directory, RESYNC):
            yield cluster, api


@pytest.fixture
def namespace(gateways: tuple[Cluster, Api]) -> str:
    name = f"test-{next(_commands)}"
    gateways[1].create("/api/v1/namespaces", {"metadata": {"name": name}})
    return name


@pytest.fixture
def serving(gateways: tuple[Cluster, Api], namespace: str) -> Routed:
    return created(gateways[1], namespace)


def test_the_route_is_as_the_spec_says(serving: Routed) -> None:
    revision = serving.await_target()
    assert serving.split() == (revision, revision, {"risk": 100, "risk-preview": 0})
    [route] = serving.children("httproutes")
    assert route["metadata"]["ownerReferences"][0]["uid"] == serving.read()["metadata"]["uid"]
    assert route["spec"]["hostnames"] == ["risk.models.example"]
    [parent] = route["spec"]["parentRefs"]
    assert (parent["namespace"], parent["name"], parent["sectionName"]) == ("gateways", "public", "https")
    assert [backend["port"] for backend in route["spec"]["rules"][0]["backendRefs"]] == [80, 80]


def test_a_canary_gets_exact_weights_and_the_service_moves_last(serving: Routed) -> None:
    first, second = serving.begin()
    assert serving.split() == (first, second, {"risk": 95, "risk-preview": 5})
    assert serving.status()["rollout"]["weight"] == 5
    serving.command("promote")
    eventually(lambda: len(serving.children("pods")) == 5, "two pods for the next weight")
    steadily(lambda: serving.weights()["risk-preview"] <= 33, "one pod of three carries a third at most", 1)
    serving.follow(second)
    eventually(lambda: serving.split() == (first, second, {"risk": 50, "risk-preview": 50}), "half of it")
    assert len(serving.children("pods")) == 5
    eventually(lambda: serving.status()["rollout"]["phase"] == "Paused", "the next pause")
    serving.command("promote")
    serving.complete(second)
    eventually(lambda: serving.split() == (second, second, {"risk": 100, "risk-preview": 0}), "at rest")


def test_the_service_is_switched_while_the_preview_has_all(serving: Routed) -> None:
    _, second = serving.begin()
    serving.command("promote-full")

    def switched() -> bool:
        serving.follow(second)
        return serving.routed_revision() == second

    eventually(switched, "the Service is switched")
    # What it does comes before what it says of it.
    eventually(lambda: serving.status()["rollout"]["phase"] == "Finalizing", "the status tells of it")
    assert serving.split() == (second, second, {"risk": 0, "risk-preview": 100})


def test_an_abort_leaves_nothing_that_leads_to_the_new_revision(serving: Routed) -> None:
    first, second = serving.begin()
    serving.command("abort")
    eventually(lambda: serving.split() == (first, first, {"risk": 100, "risk-preview": 0}), "back")
    eventually(lambda: serving.status()["rollout"]["phase"] == "Aborted", "aborted")
    assert serving.status()["rollout"]["refused"][0]["revision"] == second


def test_pods_that_are_lost_take_their_share_with_them(serving: Routed) -> None:
    _, second = serving.begin()
    [pod] = serving.await_pods(second, 1)
    serving.delete_child("pods", pod["metadata"]["name"])
    eventually(lambda: serving.weights() == {"risk": 100, "risk-preview": 0}, "nothing for no pod")
    serving.follow(second)
    eventually(lambda: serving.weights() == {"risk": 95, "risk-preview": 5}, "as before")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([("Accepted", "True", "Accepted", ""), ("ResolvedRefs", "True", "ResolvedRefs", "")], ("True", "Accepted")),
        ([("Accepted", "False", "NotAllowedByListeners", "no")], ("False", "NotAllowedByListeners")),
        (
            [("Accepted", "True", "Accepted", ""), ("ResolvedRefs", "False", "BackendNotFound", "")],
            ("False", "BackendNotFound"),
        ),
        ([("Accepted", "Unknown", "Pending", "")], ("Unknown", "Pending")),
    ],
    ids=["accepted", "refused", "unresolved", "unknown"],
)
def test_the_condition_says_what_the_gateway_says(
    serving: Routed, told: list[tuple[str, str, str, str]], expected: tuple[str, str]
) -> None:
    assert "Gateway gateways/public" in serving.await_condition("RouteAccepted", "Unknown", "Pending")
    serving.answer(*told)
    message = serving.await_condition("RouteAccepted", *expected)
    assert message
    serving.await_condition("Ready", "True")


def test_what_another_gateway_says_is_not_about_us(serving: Routed) -> None:
    serving.answer(("Accepted", "True", "Accepted", ""), gateway="private")
    steadily(lambda: serving.condition("RouteAccepted")[0] == "Unknown", "nobody of ours has answered", 3 * RESYNC)


def test_drift_is_mended_by_the_next_resync(serving: Routed) -> None:
    route = serving.child("httproutes", "risk")
    assert route is not None
    [rule] = route["spec"]["rules"]
    rule["backendRefs"][1]["weight"] = 50
    serving.change_child("httproutes", "risk", {"spec": {"rules": [rule], "hostnames": ["other.example"]}})
    eventually(lambda: serving.weights() == {"risk": 100, "risk-preview": 0}, "the weights are back")
    serving.delete_child("httproutes", "risk")
    eventually(lambda: serving.child("httproutes", "risk"), "made anew")


def test_a_route_of_someone_else_is_never_taken(gateways: tuple[Cluster, Api], namespace: str) -> None:
    api = gateways[1]
    theirs = {"metadata": {"name": "risk"}, "spec": {"hostnames": ["theirs.example"]}}
    answer = api.create(
        f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes",
        {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", **theirs},
    )
    assert answer.accepted, answer.body
    deployed = Routed.create(api, namespace, SPEC)
    message = deployed.await_condition("Ready", "False", "NameTaken")
    assert message == "HTTPRoute risk exists and belongs to something else"
    route = deployed.child("httproutes", "risk")
    assert route is not None
    assert route["spec"]["hostnames"] == ["theirs.example"]


def test_a_model_that_is_called_like_the_preview_of_another_gets_none_of_its_requests(
    gateways: tuple[Cluster, Api], namespace: str
) -> None:
    api = gateways[1]
    other = Deployed.create(api, namespace, {"model": SPEC["model"]}, "risk-preview")
    eventually(lambda: other.children("services"), "its Service, of the preview's name")
    deployed = Routed.create(api, namespace, SPEC)
    first = deployed.await_target()

    def serves() -> bool:
        deployed.follow(first)
        return deployed.routed_revision() == first

    eventually(serves, "the first revision has all traffic")
    deployed.change(OTHER_MODEL)
    second = deployed.await_target(other_than=first)
    deployed.report_ready(deployed.await_pods(second, 1))
    eventually(lambda: deployed.status()["rollout"]["phase"] == "Shifting", "the first weight")
    steadily(lambda: deployed.weights() == {"risk": 100, "risk-preview": 0}, "no weight for another model", 2 * RESYNC)
    message = deployed.await_condition("Ready", "False", "NameTaken")
    assert message.startswith("Service risk-preview exists and belongs to something else")
    assert deployed.routed_revision() == first


def test_without_a_gateway_in_the_spec_there_is_no_route(serving: Routed) -> None:
    serving.change({"gateway": None})
    eventually(lambda: serving.child("httproutes", "risk") is None, "no route")
    eventually(lambda: serving.child("services", "risk-preview") is None, "no preview")
    eventually(lambda: serving.condition("RouteAccepted")[0] == "Missing", "no condition")


def test_the_chart_grants_what_is_done_with_routes_and_no_more(serving: Routed, gateways: tuple[Cluster, Api]) -> None:
    """By the API server's audit log of this whole module."""
    serving.change({"gateway": None})
    eventually(lambda: serving.child("httproutes", "risk") is None, "no route")
    cluster = gateways[0]
    assert _of_routes(granted(cluster)) == _of_routes(used(cluster))


def _of_routes(rights: set[tuple[str, str]]) -> set[str]:
    return {verb for resource, verb in rights if resource == "httproutes"}


def test_the_gateway_api_comes_and_goes_while_the_operator_runs(tmp_path: Path) -> None:
    with bare(tmp_path) as (cluster, api), running_operator(install_rights(cluster, tmp_path), tmp_path, RESYNC):
        deployed = created(api, "default")
        deployed.await_condition("RouteAccepted", "False", "GatewayNotInstalled")
        for kind in ("Ready", "SpecAccepted"):
            deployed.await_condition(kind, "True")
        first, second = deployed.begin()
        assert shared(deployed)
        cluster.define(ROUTES)
        eventually(lambda: deployed.split() == (first, second, {"risk": 95, "risk-preview": 5}), "weights instead")
        deployed.await_condition("RouteAccepted", "Unknown", "Pending")
        cluster.kubectl("delete", "-f", str(ROUTES))
        deployed.await_condition("RouteAccepted", "False", "GatewayNotInstalled")
        eventually(lambda: shared(deployed), "split by pods again")
        deployed.command("promote-full")
        deployed.complete(second)


def shared(deployed: Deployed) -> bool:
    service = deployed.child("services", deployed.name)
    return service is not None and "onceserve.dev/revision" not in service["spec"]["selector"]
