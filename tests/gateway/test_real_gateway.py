"""Changes of a model behind a real Gateway, which clients ask without pause and without retries: no call fails.

The Gateway is Traefik's, built here on first use: `make soak-gateway CALLS=20000`, as root on Linux.
"""

import math
import time
from collections.abc import Iterator
from typing import Any

import pytest

from devcluster import traefik
from devcluster.cluster import Cluster
from support import loading
from support.changing import Changes
from support.loading import CLIENT_NODE
from support.served import ROWS, Served, request_body, serving
from support.showing import CALLS, CLIENTS, Stage
from support.waiting import eventually
from support.watching import watching

pytestmark = pytest.mark.timeout(900 + CALLS / 20)

LATE = 5.0
"""Seconds after which Traefik acts on what was written: it looks every two."""
SHOWN = 15.0
"""Seconds in which clients see a weight."""
DEVIATIONS = 4.5
"""Standard deviations of a share that may be: of 100,000 windows one has more by chance."""
RESYNC = 90.0
"""Seconds in which the operator learns what a Gateway says: it looks every 60."""
GATEWAY = {"name": traefik.GATEWAY, "namespace": traefik.NAMESPACE, "sectionName": "http"}
WEIGHTS = (10, 50)
HOST = "other.models.example"


def canary(*weights: int) -> dict[str, Any]:
    """Return a canary that waits for somebody at each of its weights."""
    steps: list[dict[str, Any]] = []
    for weight in weights:
        steps += [{"weight": weight}, {"pause": {}}]
    return {"strategy": "Canary", "canary": {"steps": steps}}


@pytest.fixture(scope="session")
def gateway(cluster: Cluster) -> str:
    """The URL of a Gateway; before the operator, which asks once a minute whether there are routes."""
    traefik.install(cluster)
    return traefik.url(cluster)


@pytest.fixture(scope="module")
def served(gateway: str, installed: Cluster) -> Iterator[Served]:
    """The example behind the Gateway."""
    with serving(installed, "behind-a-gateway", gateway=GATEWAY) as example:
        yield example


@pytest.fixture(scope="module")
def changes(served: Served) -> Changes:
    return Changes(served)


@pytest.fixture(scope="module")
def stage(gateway: str, served: Served, changes: Changes) -> Iterator[Stage]:
    """One load through the Gateway, from the first change to the last."""
    url = f"{gateway}/v2/models/{served.name}/infer"
    eventually(lambda: ask(served, url) == 200, "the Gateway knows the route", RESYNC)
    with (
        watching(served.cluster, served.namespace, served.name) as history,
        loading.running(served.cluster, url, request_body(ROWS[:1]), CLIENTS) as load,
    ):
        yield Stage(changes, load, history)


def ask(served: Served, url: str, *options: str) -> int:
    """Return the status of one answer; 0 where there is none."""
    body = request_body(ROWS[:1]).decode()
    asking = ["curl", "--silent", "--max-time", "10", "--output", "/dev/null", "--write-out", "%{http_code}"]
    return int(served.cluster.exec(CLIENT_NODE, [*asking, "--json", body, *options, url]).stdout)


def await_route(served: Served, status: str, reason: str, name: str = "") -> str:
    """Wait for the condition that tells of the route; return its message."""

    def told() -> bool:
        found = served.condition("RouteAccepted", name)
        return (found.get("status"), found.get("reason")) == (status, reason)

    eventually(told, f"RouteAccepted is {status}, {reason}", RESYNC)
    return str(served.condition("RouteAccepted", name)["message"])


def weights(served: Served) -> list[int]:
    """Return what the route gives the Service and its preview."""
    route = served.get(f"httproute/{served.name}")
    return [each["weight"] for each in route["spec"]["rules"][0]["backendRefs"]]


def test_what_the_gateway_says_of_the_route_is_told(served: Served) -> None:
    assert "has accepted the HTTPRoute" in await_route(served, "True", "Accepted")
    [answer] = served.get(f"httproute/{served.name}")["status"]["parents"]
    assert answer["controllerName"] == "traefik.io/gateway-controller"
    assert {each["type"]: each["status"] for each in answer["conditions"]} == {
        "Accepted": "True",
        "ResolvedRefs": "True",
    }


def test_a_route_that_the_listener_does_not_allow_is_told_and_one_with_a_hostname_answers_to_it(
    gateway: str, served: Served
) -> None:
    spec = {"replicas": 1, "model": {"uri": "configmap://breast-cancer/model.onnx"}}
    served.apply("other", {**spec, "gateway": {**GATEWAY, "sectionName": "internal"}})
    await_route(served, "False", "NotAllowedByListeners", "other")
    served.apply("other", {**spec, "gateway": {**GATEWAY, "hostnames": [HOST]}})
    await_route(served, "True", "Accepted", "other")
    served.wait("Ready", name="other")
    url = f"{gateway}/v2/models/other/infer"
    eventually(lambda: ask(served, url, "--header", f"Host: {HOST}") == 200, "the route answers to its hostname", LATE)
    assert ask(served, url) == 404
    served.kubectl("delete", "mdep/other")
    eventually(lambda: ask(served, url, "--header", f"Host: {HOST}") == 404, "the route has gone with its model")


def await_pause(changes: Changes, step: int) -> None:
    """Wait for the pause at a step."""
    eventually(lambda: changes.await_phase("Paused")["step"] == step, f"the pause at step {step}")


def show_share(stage: Stage, revision: str, weight: int) -> None:
    """Show which share of the calls a revision gets: its weight, or as far from it as chance would bring it."""
    time.sleep(LATE)
    stage.look()
    time.sleep(SHOWN)
    seen = stage.look()
    answers = seen.pods.total()
    calls = seen.revisions[revision].calls if revision in seen.revisions else 0
    share, expected = calls / answers, weight / 100
    print(f"\nweight {weight} %: {calls:,} of {answers:,} calls, {share:.2%}", flush=True)
    assert abs(share - expected) <= DEVIATIONS * math.sqrt(expected * (1 - expected) / answers)


def test_a_canary_gets_its_weights(served: Served, changes: Changes, stage: Stage) -> None:
    def change() -> None:
        new = changes.ask(rollout=canary(*WEIGHTS))
        for number, weight in enumerate(WEIGHTS, start=1):
            await_pause(changes, step=2 * number)
            assert weights(served) == [100 - weight, weight]
            show_share(stage, new, weight)
            changes.command("promote")
        changes.await_stable(new)
        assert weights(served) == [100, 0]
        show_share(stage, new, 100)

    stage.show("Canary by weights: 10, 50, 100", change)


def test_an_aborted_canary_gives_its_share_back(served: Served, changes: Changes, stage: Stage) -> None:
    def change() -> None:
        old = changes.serving()
        new = changes.ask(rollout=canary(50))
        changes.await_phase("Paused")
        show_share(stage, new, 50)
        changes.command("abort")
        assert changes.await_refusal(new)["reason"] == "AbortedByCommand"
        assert weights(served) == [100, 0]
        show_share(stage, old, 100)

    stage.show("Canary, aborted at 50", change)


@pytest.mark.parametrize(
    "rollout",
    [{"strategy": "RollingUpdate"}, {"strategy": "BlueGreen", "blueGreen": {"scaleDownDelay": "3s"}}],
    ids=lambda rollout: rollout["strategy"],
)
def test_other_strategies(rollout: dict[str, Any], changes: Changes, stage: Stage) -> None:
    def change() -> None:
        new = changes.ask(rollout=rollout)
        changes.await_stable(new)
        show_share(stage, new, 100)

    stage.show(rollout["strategy"], change)


def test_pods_that_are_deleted(served: Served, stage: Stage) -> None:
    def change() -> None:
        served.kubectl("delete", f"pod/{served.ready_pods()[0]}")
        eventually(lambda: len(served.ready_pods()) == 3, "another pod")

    stage.show("a pod deleted", change, least=2)
