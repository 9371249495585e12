"""What stands behind a Gateway, pass by pass, while revisions change."""

from typing import Any

import pytest

from onceserve_operator.domain import EVERYBODY, Route, Traffic
from onceserve_operator.kube import kinds, routes
from onceserve_operator.resources import names
from support.worlds import World

GATEWAY = {"name": "public"}
STEPS = [{"weight": 10}, {"pause": {}}, {"weight": 60}, {"pause": {}}]
CANARY = {"strategy": "Canary", "canary": {"steps": STEPS}}
REST = {"risk": 100, "risk-preview": 0}


def world(**spec: Any) -> World:
    """Return a world in which a first revision serves with three pods."""
    model = {"uri": "https://models.example/a.onnx"}
    given = {"replicas": 3, "model": model, "gateway": GATEWAY, "rollout": CANARY, **spec}
    made = World({"apiVersion": "onceserve.dev/v1alpha1", "kind": "ModelDeployment"} | resource(given))
    first = made.reconcile().step.target.name
    made.pods(first, ready=3)
    made.settle()
    return made


def resource(spec: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "risk"}, "spec": spec}


def weights(of: World) -> dict[str, int]:
    route = of.cache.get(kinds.HTTP_ROUTE, "default", "risk")
    assert route is not None
    return {each["name"]: each["weight"] for each in route["spec"]["rules"][0]["backendRefs"]}


def ports(of: World) -> list[int]:
    route = of.cache.get(kinds.HTTP_ROUTE, "default", "risk")
    assert route is not None
    return [each["port"] for each in route["spec"]["rules"][0]["backendRefs"]]


def preview(of: World) -> str:
    service = of.cache.get(kinds.SERVICE, "default", names.preview(of.key))
    assert service is not None
    revision: str = service["spec"]["selector"]["onceserve.dev/revision"]
    return revision


def begun(of: World, model: str = "b", **spec: Any) -> tuple[str, str]:
    """Have a person ask for another model; return what serves and what is on its way."""
    old = of.planned().step.target.name
    of.change(model={"uri": f"https://models.example/{model}.onnx"}, **spec)
    return old, of.settle().step.target.name


def at_first_pause(**spec: Any) -> tuple[World, str, str]:
    made = world(**spec)
    old, new = begun(made)
    made.pods(new, ready=1)
    made.settle()
    assert made.resource["status"]["rollout"]["phase"] == "Paused"
    return made, old, new


def at_second_step(ready: int) -> tuple[World, str, str]:
    made, old, new = at_first_pause()
    made.command("promote")
    made.settle()
    made.pods(new, ready=ready)
    made.settle()
    return made, old, new


def test_until_a_revision_is_verified_nothing_leads_to_it() -> None:
    made = world()
    old, new = begun(made)
    assert (weights(made), preview(made)) == (REST, old)
    made.silent = {new}
    made.pods(new, ready=1)
    made.settle()
    assert made.resource["status"]["rollout"]["phase"] == "Verifying"
    assert (weights(made), preview(made)) == (REST, old)


def test_paused_before_it_is_verified_nothing_leads_to_it() -> None:
    made = world()
    old, _ = begun(made)
    made.command("pause")
    made.settle()
    assert made.resource["status"]["rollout"]["phase"] == "Paused"
    assert (weights(made), preview(made)) == (REST, old)


def test_a_step_gives_its_weight_and_leaves_the_service_alone() -> None:
    made, old, new = at_first_pause()
    assert (weights(made), preview(made), made.traffic()) == ({"risk": 90, "risk-preview": 10}, new, Traffic(old))
    assert made.replicas() == {old: 3, new: 1}


@pytest.mark.parametrize(("ready", "weight", "phase"), [(0, 0, "Shifting"), (1, 33, "Shifting"), (2, 60, "Paused")])
def test_more_is_given_as_verified_pods_can_carry_it(ready: int, weight: int, phase: str) -> None:
    made, _, _ = at_second_step(ready)
    assert weights(made) == {"risk": 100 - weight, "risk-preview": weight}
    rollout = made.resource["status"]["rollout"]
    assert (rollout["phase"], rollout["weight"]) == (phase, weight)


def test_an_operator_that_has_just_started_takes_nothing_from_pods_that_are_ready() -> None:
    made, _, new = at_second_step(ready=2)
    made.silent = {new}
    made.settle()
    assert weights(made) == {"risk": 40, "risk-preview": 60}
    made.pods(new, ready=1)
    made.settle()
    assert weights(made) == {"risk": 67, "risk-preview": 33}
    made.pods(new, ready=2)
    made.settle()
    assert weights(made) == {"risk": 67, "risk-preview": 33}


def test_at_the_end_all_ways_lead_to_the_new_revision_before_the_old_pods_leave() -> None:
    made, old, new = at_second_step(ready=2)
    made.command("promote again")
    made.settle()
    made.pods(new, ready=3)
    made.settle()
    everything = ({"risk": 0, "risk-preview": 100}, new, Traffic(new))
    assert (weights(made), preview(made), made.traffic()) == everything
    assert made.replicas() == {old: 3, new: 3}
    made.pass_time(seconds=11)
    made.settle()
    assert made.replicas() == {old: 0, new: 3}
    made.pods(old)
    made.settle()
    assert (weights(made), preview(made), made.traffic()) == (REST, new, Traffic(new))


@pytest.mark.parametrize("words", ["abort", "superseded"])
def test_given_up_nothing_leads_to_it_in_the_very_pass(words: str) -> None:
    made, old, _ = at_second_step(ready=2)
    if words == "abort":
        made.command("abort")
    else:
        made.change(model={"uri": "https://models.example/c.onnx"})
    made.reconcile()
    assert (weights(made), preview(made), made.traffic()) == (REST, old, Traffic(old))


def test_traffic_leaves_pods_before_they_are_taken_away() -> None:
    made, _, _ = at_second_step(ready=2)
    order = [child["kind"] for child in made.planned().children]
    assert order[-5:-1] == ["Service", "Service", "HTTPRoute", "Deployment"]


def test_superseded_at_the_end_the_preview_stays_with_what_serves() -> None:
    made, _, new = at_second_step(ready=2)
    made.command("promote again")
    made.settle()
    made.pods(new, ready=3)
    made.settle()
    made.change(model={"uri": "https://models.example/c.onnx"})
    made.settle()
    assert (weights(made), preview(made), made.traffic()) == (REST, new, Traffic(new))


def test_no_weight_is_given_before_the_preview_leads_to_the_revision() -> None:
    made = world()
    old, new = begun(made)
    made.pods(new, ready=1)
    for _ in range(5):
        made.reconcile(refused_kinds={"Service"})
    rollout = made.resource["status"]["rollout"]
    assert (weights(made), preview(made), made.traffic()) == (REST, old, Traffic(old))
    assert (rollout["phase"], rollout["step"], rollout["weight"]) == ("Shifting", 1, 0)
    made.settle()
    assert (weights(made), preview(made)) == ({"risk": 90, "risk-preview": 10}, new)


def test_a_preview_that_is_lost_or_led_astray_takes_the_weight_with_it_until_it_is_back() -> None:
    made, _, new = at_first_pause()
    service = made.cache.get(kinds.SERVICE, "default", names.preview(made.key))
    assert service is not None
    metadata = {**service["metadata"], "resourceVersion": "1000000"}
    wider = {**service["spec"], "selector": {**service["spec"]["selector"], "tier": "other"}}
    made.cache.put({**service, "metadata": metadata, "spec": wider})
    made.reconcile(refused_kinds={"Service"})
    assert weights(made) == REST
    made.lose(kinds.SERVICE, names.preview(made.key))
    made.settle()
    assert (weights(made), preview(made)) == ({"risk": 90, "risk-preview": 10}, new)


def test_a_step_is_not_done_while_there_is_no_preview() -> None:
    made = world()
    _, new = begun(made)
    made.pods(new, ready=1)
    while weights(made) == REST:
        made.reconcile()
    made.lose(kinds.SERVICE, names.preview(made.key))
    made.reconcile()
    rollout = made.resource["status"]["rollout"]
    assert (rollout["phase"], rollout["step"]) == ("Shifting", 1)
    made.settle()
    assert made.resource["status"]["rollout"]["phase"] == "Paused"


def test_a_preview_of_somebody_else_is_none_whatever_it_selects() -> None:
    made, _, new = at_first_pause()
    service = made.cache.get(kinds.SERVICE, "default", names.preview(made.key))
    assert service is not None
    theirs = {**service["metadata"], "resourceVersion": "1000000", "ownerReferences": [{"uid": "another"}]}
    assert made.observed().previewed == new
    made.cache.put({**service, "metadata": theirs})
    assert made.observed().previewed is None


@pytest.mark.parametrize(("ready", "selector"), [(0, "the old ones"), (1, "all"), (2, "all")])
def test_a_drained_node_takes_no_more_of_the_pods_that_a_gateway_reaches(ready: int, selector: str) -> None:
    made, old, _ = at_second_step(ready)
    budget = made.cache.get(kinds.DISRUPTION_BUDGET, "default", "risk")
    assert budget is not None
    of_all = {"onceserve.dev/modeldeployment": "risk"}
    expected = of_all if selector == "all" else {**of_all, "onceserve.dev/revision": old}
    assert budget["spec"]["selector"] == {"matchLabels": expected}


def test_switched_to_blue_green_and_superseded_at_once_a_late_gateway_meets_no_unverified_pod() -> None:
    made, old, _ = at_second_step(ready=2)
    assert weights(made)["risk-preview"] == 60
    made.change(model={"uri": "https://models.example/c.onnx"}, rollout={"strategy": "BlueGreen"})
    made.reconcile()
    assert (weights(made), preview(made)) == (REST, old)
    third = made.settle().step.target.name
    assert (weights(made), preview(made)) == (REST, third)


def test_a_route_that_is_refused_keeps_the_canary_from_going_on() -> None:
    made = world()
    old, new = begun(made)
    made.pods(new, ready=1)
    for _ in range(5):
        made.reconcile(refused_kinds={"HTTPRoute"})
    rollout = made.resource["status"]["rollout"]
    assert (rollout["phase"], rollout["step"], made.traffic()) == ("Shifting", 1, Traffic(old))


def test_without_the_gateway_api_a_canary_is_split_by_pods() -> None:
    made = world()
    made.cache.withdraw(kinds.HTTP_ROUTE)
    _, new = begun(made)
    made.pods(new, ready=1)
    made.settle()
    assert made.traffic() == EVERYBODY
    assert "HTTPRoute" not in {child["kind"] for child in made.planned().children}
    told = made.condition("RouteAccepted")
    assert (told["status"], told["reason"]) == ("False", "GatewayNotInstalled")


def test_a_rolling_update_leaves_the_route_alone() -> None:
    made = world(rollout={})
    old, new = begun(made)
    made.pods(new, ready=1)
    made.settle()
    assert made.traffic() == EVERYBODY
    assert (weights(made), preview(made)) == (REST, old)


def test_a_blue_green_shows_people_the_new_revision_in_the_preview() -> None:
    made = world(rollout={"strategy": "BlueGreen"})
    _, new = begun(made)
    assert (weights(made), preview(made)) == (REST, new)


def test_ports_are_those_of_the_protocol_that_each_service_speaks() -> None:
    made = world(rollout={})
    old, new = begun(made, server={"tls": {"secretName": "certificate"}})
    assert (preview(made), ports(made)) == (old, [80, 80])
    made.pods(new, ready=3)
    made.settle()
    assert (preview(made), made.traffic(), ports(made)) == (old, Traffic(new), [443, 80])
    made.pass_time(seconds=31)
    made.settle()
    made.pods(old)
    made.settle()
    assert (preview(made), ports(made)) == (new, [443, 443])


def test_without_a_gateway_there_is_neither_route_nor_condition() -> None:
    made = world(gateway=None)
    assert not {"HTTPRoute"} & {child["kind"] for child in made.planned().children}
    assert "RouteAccepted" not in {each["type"] for each in made.resource["status"]["conditions"]}


# --- what a live route tells

PARENT = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public"}
SPEC = {
    "parentRefs": [PARENT],
    "rules": [{"backendRefs": [{"name": "risk", "weight": 70}, {"name": "p", "weight": 30}]}],
}
ACCEPTED = {"type": "Accepted", "status": "True", "reason": "Accepted", "message": ""}
UNRESOLVED = {"type": "ResolvedRefs", "status": "False", "reason": "BackendNotFound", "message": "no Service p"}
SILENT = {"type": "Accepted", "status": "False", "reason": "NoMatchingParent", "message": ""}


def read(*told: dict[str, str], parent: dict[str, str] | None = None, **spec: Any) -> Route:
    answer = {"parentRef": {**PARENT, **(parent or {})}, "conditions": list(told)}
    live = {"metadata": {"namespace": "default"}, "spec": {**SPEC, **spec}, "status": {"parents": [answer]}}
    return routes.read(live, "p")


@pytest.mark.parametrize(
    ("found", "accepted", "reason"),
    [
        (read(ACCEPTED), True, "Accepted"),
        (read(ACCEPTED, parent={"namespace": "default"}), True, "Accepted"),
        (read(ACCEPTED, parent={"namespace": "other"}), None, "Pending"),
        (read(ACCEPTED, parent={"sectionName": "https"}), None, "Pending"),
        (read(ACCEPTED, parentRefs=[]), None, "Pending"),
        (read(ACCEPTED, UNRESOLVED), False, "BackendNotFound"),
        (read(SILENT), False, "NoMatchingParent"),
        (read(), None, "Pending"),
        (routes.read(None, "p"), None, "Pending"),
    ],
)
def test_a_route_is_accepted_when_its_own_gateway_says_so(found: Route, accepted: bool | None, reason: str) -> None:
    assert (found.accepted, found.reason) == (accepted, reason)
    assert found.message


@pytest.mark.parametrize(("rules", "weight"), [(SPEC["rules"], 30), ([], 0), ([{}], 0), ([{"backendRefs": []}], 0)])
def test_the_weight_is_that_of_the_preview(rules: list[Any], weight: int) -> None:
    assert read(rules=rules).weight == weight
