"""A canary that a real Prometheus judges, which scrapes real servers; no kubelet starts them, so the test does."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from contract.serving.process import Server, row
from devcluster.cluster import Cluster
from onceserve_contract import environment, http
from support.api_server import Api
from support.operator_process import OperatorProcess, install_rights, running_operator
from support.prometheus import Prometheus
from support.rollouts import Deployed, Object
from support.waiting import eventually
from unit.serving import models

GUIDE = Path(__file__).parents[2] / "docs" / "rollouts.md"
OURS = 'onceserve_requests_total{namespace="$namespace",name="$name",revision="$revision"'
ERRORS = f'(sum({OURS},code=~"5.."}}) or vector(0)) / sum({OURS}}})'
OTHERS = ({"uri": "https://models.example/b.onnx"}, {"uri": "https://models.example/c.onnx"})
NUMBERS = {200: [1, 2], 500: [-1, 2]}
"""What the model is asked for a status: of a negative number it knows no logarithm."""


def relabelings() -> list[Object]:
    """Return how the guide has labels made of what Prometheus discovers of pods."""
    blocks = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    [config] = [yaml.safe_load(block) for block in blocks if block.startswith("scrape_configs:")]
    found: list[Object] = config["scrape_configs"][0]["relabel_configs"]
    return found


def discovered(pod: Object) -> dict[str, str]:
    """Return what Prometheus discovers of a pod's port for HTTP."""
    metadata = pod["metadata"]
    [port] = [each["name"] for each in pod["spec"]["containers"][0]["ports"] if each["containerPort"] == http.PORT]
    named = {f"label_{re.sub('[^a-zA-Z0-9]', '_', name)}": value for name, value in metadata["labels"].items()}
    of_pod = {f"__meta_kubernetes_pod_{name}": value for name, value in (named | {"container_port_name": port}).items()}
    return of_pod | {"__meta_kubernetes_namespace": metadata["namespace"]}


class Servers:
    """Servers in the place of pods: one for each revision, at an address of its own."""

    def __init__(self, directory: Path, prometheus: Prometheus, stack: ExitStack) -> None:
        self._model = directory / "model.onnx"
        self._model.write_bytes(models.unary("Log", shape=["N"]))
        self._directory = directory
        self._prometheus = prometheus
        self._stack = stack
        self._targets: dict[str, dict[str, str]] = {}

    def start(self, pod: Object) -> str:
        """Start what a pod would run, have it scraped as Prometheus discovers pods; return its address."""
        address = f"127.84.0.{len(self._targets) + 1}"
        labels, [container] = pod["metadata"]["labels"], pod["spec"]["containers"]
        given = {each["name"]: each["value"] for each in container["env"] if "value" in each}
        home = self._directory / address
        home.mkdir()
        server = Server(
            home,
            *(str(self._model), "--name", labels["onceserve.dev/modeldeployment"], "--host", address),
            *("--port", str(http.PORT), "--model-version", labels["onceserve.dev/revision"]),
            **{environment.VERIFICATION_KEY: given[environment.VERIFICATION_KEY]},
        )
        self._stack.callback(server.stop)
        server.ready()
        self._targets[f"{address}:{http.PORT}"] = discovered(pod)
        self._prometheus.scrape(self._targets)
        return address


class Judged(Deployed):
    """A ModelDeployment whose canary a Prometheus judges."""

    def follow_with(self, servers: Servers, revision: str, number: int) -> str:
        """Have the first pods of a revision answer; return at which address."""
        pods = self.await_pods(revision, number)
        address = servers.start(pods[0])
        self.report_ready(pods, address)
        return address

    def await_return(self, revision: str, address: str) -> None:
        """Have the pods of the old revision come up again, until it has all traffic."""

        def returned() -> bool:
            self.follow(revision, address)
            return self.routed_revision() == revision and self.status()["rollout"]["phase"] == "Aborted"

        eventually(returned, f"{revision} has all traffic again")

    def await_words(self, words: str) -> None:
        def said() -> bool:
            return words in self.status()["rollout"]["message"]

        eventually(said, words)


def call(address: str, *statuses: int) -> None:
    """Make calls that are answered so."""
    with httpx.Client(base_url=f"http://{address}:{http.PORT}", timeout=20, trust_env=False) as client:
        for status in statuses:
            answer = client.post("/v2/models/risk/infer", json=row("x", "FP32", NUMBERS[status]))
            assert answer.status_code == status


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    with Prometheus(relabelings=relabelings()) as started:
        yield started


@pytest.fixture
def servers(prometheus: Prometheus, tmp_path: Path) -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(tmp_path, prometheus, stack)


@pytest.fixture
def operator(cluster: Cluster, definition: dict[str, Any], tmp_path: Path) -> Iterator[OperatorProcess]:
    with running_operator(install_rights(cluster, tmp_path), tmp_path) as process:
        yield process


def test_a_prometheus_refuses_one_canary_and_lets_the_next_one_through(
    api: Api, namespace: str, operator: OperatorProcess, prometheus: Prometheus, servers: Servers
) -> None:
    queries = [{"name": "errors", "query": ERRORS, "max": "0.2"}]
    rollout = {
        "strategy": "Canary",
        "canary": {"steps": [{"weight": 50}, {"pause": {}}]},
        "verification": {"prometheus": {"url": prometheus.url, "queries": queries}},
    }
    judged = Judged.create(api, namespace, {"replicas": 2, "model": {"uri": "https://a.example/a"}, "rollout": rollout})
    first = judged.await_target()
    home = judged.follow_with(servers, first, 2)
    judged.complete(first, home)
    call(home, *[500] * 9)

    judged.change({"model": OTHERS[0]})
    second = judged.await_target(other_than=first)
    address = judged.follow_with(servers, second, 1)
    judged.await_words("errors is not judged: Prometheus: no result")
    call(address, 200, 200, 500)
    message = judged.await_condition("Ready", "False", "QueryTooHigh")
    assert message == f"errors is 0.333333, at most 0.2 is allowed ({first} goes on serving)"
    judged.await_return(first, home)

    judged.change({"model": OTHERS[1]})
    third = judged.await_target(other_than=second)
    address = judged.follow_with(servers, third, 1)
    call(address, *[200] * 9, 500)
    judged.await_words("paused until somebody promotes")
    judged.await_words("errors is 0.1, at most 0.2")
    value = {"onceserve.dev/command": "promote"}
    assert api.merge(judged.path, {"metadata": {"annotations": value}}).accepted
    judged.complete(third, address)
