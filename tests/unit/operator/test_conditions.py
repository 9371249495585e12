import pytest

from onceserve_contract.termination import Failure, FailureReason
from onceserve_operator.conditions import floor
from onceserve_operator.domain import Problem, Traffic
from support.worlds import World

SPEC = {"replicas": 3, "model": {"uri": "https://models.example/a.onnx"}}
MISSING = Failure(FailureReason.NOT_FOUND, "https://models.example/a.onnx: the host says 404")
FORGETFUL = Failure(FailureReason.STORE_REFUSED, "the store redis r:6379/0: maxmemory-policy is allkeys-lru")
KEEPING = {"store": {"type": "Redis", "urlFrom": {"secretKeyRef": {"name": "store", "key": "url"}}}}
UNREACHABLE = Failure(FailureReason.UNREACHABLE, "https://models.example/a.onnx: connection refused")


def new_world(**spec: object) -> tuple[World, str]:
    resource = {"apiVersion": "onceserve.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "risk"}}
    world = World({**resource, "spec": {**SPEC, **spec}})
    return world, world.settle().step.target.name


def statuses(world: World) -> dict[str, str]:
    return {each["type"]: each["status"] for each in world.resource["status"]["conditions"]}


def test_nothing_is_claimed_before_pods_exist() -> None:
    world, _ = new_world()
    assert statuses(world) == {
        "SpecAccepted": "True",
        "ModelLoaded": "Unknown",
        "Available": "False",
        "Progressing": "True",
        "Reconciling": "True",
        "Stalled": "False",
        "Ready": "False",
    }


def test_ready_once_enough_pods_answer_and_complete_once_all_do() -> None:
    world, revision = new_world()
    world.pods(revision, ready=1, starting=2)
    world.settle()
    assert world.condition("Ready")["status"] == "False"
    world.pods(revision, ready=2, starting=1)
    world.settle()
    assert (world.condition("Ready")["status"], world.condition("Progressing")["status"]) == ("True", "True")
    world.pods(revision, ready=3)
    world.settle()
    assert (world.condition("Ready")["status"], world.condition("Progressing")["status"]) == ("True", "False")
    assert world.condition("Ready")["message"] == f"3 of 3 pods of {revision} answer"


def test_the_death_of_the_last_pod_shows() -> None:
    world, revision = new_world()
    world.pods(revision, ready=3)
    world.settle()
    world.pods(revision, starting=3)
    world.settle()
    assert (world.condition("Ready")["status"], world.condition("Ready")["reason"]) == ("False", "PodsNotReady")
    assert world.condition("Available")["status"] == "False"


def test_a_model_that_cannot_be_loaded_is_explained_in_every_summary() -> None:
    world, revision = new_world()
    world.pods(revision, failed=[MISSING] * 3)
    world.settle()
    for kind, status in {"ModelLoaded": "False", "Ready": "False", "Stalled": "True", "Progressing": "False"}.items():
        condition = world.condition(kind)
        assert (condition["status"], condition["reason"], condition["message"]) == (status, "NotFound", MISSING.message)


def test_a_passing_failure_is_no_stall() -> None:
    world, revision = new_world()
    world.pods(revision, failed=[UNREACHABLE])
    world.settle()
    assert (world.condition("Stalled")["status"], world.condition("Reconciling")["status"]) == ("False", "True")
    assert world.condition("ModelLoaded")["reason"] == "Unreachable"


def test_a_failing_update_says_what_goes_on_serving() -> None:
    world, first = new_world()
    world.pods(first, ready=3)
    world.settle()
    world.change(model={"uri": "https://models.example/b.onnx"})
    second = world.settle().step.target.name
    world.pods(second, failed=[Failure(FailureReason.NOT_FOUND, "https://models.example/b.onnx answers 404")])
    world.settle()
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", "NotFound")
    assert ready["message"] == f"https://models.example/b.onnx answers 404 ({first} goes on serving)"
    assert world.condition("Available")["status"] == "True"


def test_a_secret_that_is_awaited_is_named_and_neither_stalls_nor_warns() -> None:
    """Whoever makes it may only be late, and each start waits for a moment."""
    world, revision = new_world(auth={"apiKeys": {"secretName": "keys"}})
    world.pods(revision, mounting="keys")
    world.settle()
    for kind, status in {"Ready": "False", "Stalled": "False", "Reconciling": "True"}.items():
        assert world.condition(kind)["status"] == status
    ready = world.condition("Ready")
    assert (ready["reason"], ready["message"]) == (
        "SecretAwaited",
        "The pods start when what they mount is there: Secret keys",
    )
    assert [event.reason for event in world.events if event.warning] == []


def test_a_store_is_ready_once_a_pod_runs_with_it() -> None:
    world, revision = new_world(idempotency=KEEPING)
    assert world.condition("IdempotencyStoreReady")["status"] == "Unknown"
    world.pods(revision, ready=3)
    world.settle()
    found = world.condition("IdempotencyStoreReady")
    assert (found["status"], found["reason"]) == ("True", "NotRefused")
    assert found["message"] == f"3 pods of {revision} run and refused no store"


def test_a_store_that_pods_refuse_is_told_and_is_no_fault_of_the_model() -> None:
    world, revision = new_world(idempotency=KEEPING)
    world.pods(revision, failed=[FORGETFUL] * 3)
    world.settle()
    for kind, status in {"IdempotencyStoreReady": "False", "Ready": "False", "Stalled": "True"}.items():
        condition = world.condition(kind)
        assert (condition["status"], condition["reason"]) == (status, "StoreRefused")
        assert condition["message"] == FORGETFUL.message
    assert world.condition("ModelLoaded")["status"] == "Unknown"


def test_what_keeps_no_answers_says_nothing_of_a_store() -> None:
    world, revision = new_world(idempotency={"mode": "Disabled"})
    world.pods(revision, ready=3)
    world.settle()
    assert "IdempotencyStoreReady" not in statuses(world)


def test_one_failing_pod_of_three_does_not_hide_that_two_answer() -> None:
    world, revision = new_world()
    world.pods(revision, ready=2, failed=[MISSING])
    world.settle()
    assert (world.condition("Ready")["status"], world.condition("ModelLoaded")["status"]) == ("True", "False")


def test_a_write_that_was_refused_is_never_ready() -> None:
    world, revision = new_world()
    world.pods(revision, ready=3)
    world.reconcile(refusals=(Problem("NameTaken", "Service risk exists", permanent=True),))
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"], ready["message"]) == ("False", "NameTaken", "Service risk exists")


def test_zero_replicas_are_what_was_wanted_and_not_available() -> None:
    world, _ = new_world(replicas=0)
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"], ready["message"]) == (
        "True",
        "ScaledToZero",
        "No pod is wanted, and none answers",
    )
    found = {kind: world.condition(kind)["status"] for kind in ("Available", "Stalled", "Reconciling")}
    assert found == {"Available": "False", "Stalled": "False", "Reconciling": "False"}


def test_the_time_of_a_condition_is_that_of_its_last_change_of_status() -> None:
    world, revision = new_world()
    before = world.condition("Ready")["lastTransitionTime"]
    world.pass_time(minutes=1)
    world.pods(revision, ready=1, starting=2)
    world.settle()
    assert world.condition("Ready")["lastTransitionTime"] == before
    world.pods(revision, ready=3)
    world.settle()
    assert world.condition("Ready")["lastTransitionTime"] == "2026-01-01T00:01:00Z"


def test_a_pass_over_an_unchanged_world_has_the_same_status_at_any_time() -> None:
    world, revision = new_world()
    world.pods(revision, ready=2, failed=[MISSING])
    world.settle()
    before = world.resource["status"]
    world.pass_time(hours=1)
    world.settle()
    assert world.resource["status"] == before


def test_every_condition_names_the_generation_that_it_is_about() -> None:
    world, _ = new_world()
    world.change(replicas=4)
    world.settle()
    assert {each["observedGeneration"] for each in world.resource["status"]["conditions"]} == {2}
    assert world.resource["status"]["observedGeneration"] == 2


def test_events_tell_each_change_once() -> None:
    world, revision = new_world()
    world.pods(revision, failed=[MISSING] * 3)
    world.settle()
    world.settle()
    world.pods(revision, ready=3)
    world.settle()
    world.settle()
    told = [(event.reason, event.warning) for event in world.events]
    assert told == [
        ("Accepted", False),
        ("Starting", False),
        ("NotFound", True),
        ("Loaded", False),
        ("Starting", False),
        ("Serving", False),
    ]


@pytest.mark.parametrize(
    ("replicas", "max_unavailable", "least"),
    [(3, 1, 2), (1, 1, 1), (4, "25%", 3), (3, "25%", 2), (3, 0, 3), (3, "100%", 1), (10, 3, 7)],
)
def test_the_floor_is_what_a_disruption_budget_leaves_and_at_least_one(
    replicas: int, max_unavailable: int | str, least: int
) -> None:
    assert floor(replicas, max_unavailable) == least


def test_losing_what_was_ready_is_a_warning() -> None:
    world, revision = new_world()
    world.pods(revision, ready=3)
    world.settle()
    world.pods(revision, starting=3)
    world.settle()
    assert (world.events[-1].reason, world.events[-1].warning) == ("PodsNotReady", True)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("configmap://models/risk.onnx", "configmap://models/risk.onnx"),
        ("https://models.example/risk.onnx?signature=secret", "https://models.example/risk.onnx"),
    ],
)
def test_a_message_that_does_not_name_the_model_gets_its_uri(uri: str, shown: str) -> None:
    world, revision = new_world(model={"uri": uri})
    world.pods(revision, failed=[Failure(FailureReason.LOAD_FAILED, "onnxruntime refuses it")])
    world.settle()
    message = f"{shown}: onnxruntime refuses it"
    assert (world.condition("ModelLoaded")["message"], world.condition("Ready")["message"]) == (message, message)


def test_a_rollout_that_starts_is_no_warning() -> None:
    world, revision = new_world()
    world.pods(revision, ready=3)
    world.settle()
    world.change(model={"uri": "https://models.example/b.onnx"})
    world.settle()
    assert (world.events[-1].reason, world.events[-1].warning) == ("RolloutStarted", False)


def test_ready_waits_for_the_service_to_be_seen_switched() -> None:
    world, revision = new_world()
    world.pods(revision, ready=3)
    world.settle()
    world.change(model={"uri": "https://models.example/b.onnx"})
    second = world.settle().step.target.name
    while world.traffic() != Traffic(second):
        assert world.condition("Ready")["status"] == "False"
        world.reconcile()
        world.follow()
    world.reconcile()
    assert world.condition("Ready")["status"] == "True"


def test_pods_of_a_deleted_namesake_do_not_count() -> None:
    world, revision = new_world()
    world.pods(revision, ready=3)
    world.pass_time(seconds=10)
    world.recreate()
    world.settle()
    assert (world.condition("Ready")["status"], world.resource["status"]["replicas"]) == ("False", 0)


def test_a_pod_knows_the_cause_and_its_deployment_only_that_time_is_up() -> None:
    world, revision = new_world()
    world.pods(revision, failed=[UNREACHABLE])
    world.exceed_deadline(revision)
    world.settle()
    for kind, status in {"Ready": "False", "Stalled": "True"}.items():
        assert (world.condition(kind)["status"], world.condition(kind)["reason"]) == (status, "Unreachable")


def test_fields_of_a_later_release_are_named_and_all_else_is_done() -> None:
    world, revision = new_world(flavour="sweet", server={"threads": 2, "turbo": True})
    world.pods(revision, ready=3)
    world.settle()
    accepted = world.condition("SpecAccepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "UnknownFields")
    assert accepted["message"] == "This release does not know spec.server.turbo, spec.flavour, and acts on all else"
    assert world.condition("Ready")["status"] == "True"


INVALID = "spec.replicas: Input should be less than or equal to 1000"
SCALED_BY_LOAD = {"minReplicas": 1, "maxReplicas": 5, "metric": "Concurrency", "target": "8"}


def refused_world() -> tuple[World, str]:
    """Return a world in which three pods serve, under a spec that cannot be read any more."""
    world, revision = new_world(idempotency=KEEPING, gateway={"name": "public"}, autoscaling=SCALED_BY_LOAD)
    world.pods(revision, ready=3)
    world.settle()
    world.change(replicas=5000)
    return world, revision


@pytest.mark.parametrize(
    ("ready", "starting", "status", "reason", "message"),
    [
        (3, 0, "True", "Serving", "3 of 3 pods answer"),
        (2, 1, "Unknown", "Invalid", "2 of 3 pods answer; how many must is not known while the spec is invalid"),
        (0, 2, "False", "PodsNotReady", "0 of 3 pods answer"),
    ],
)
def test_while_a_spec_is_refused_its_status_follows_the_pods(
    ready: int, starting: int, status: str, reason: str, message: str
) -> None:
    world, revision = refused_world()
    world.refuse(INVALID)
    world.pods(revision, ready=ready, starting=starting)
    world.refuse(INVALID)
    available, told = world.condition("Available"), world.resource["status"]
    assert (available["status"], available["reason"], available["message"]) == (status, reason, message)
    assert (told["replicas"], told["readyReplicas"]) == (ready + starting, ready)
    [listed] = told["revisions"]
    assert (listed["replicas"], listed["ready"]) == (ready + starting, ready)
    assert (world.condition("Ready")["status"], world.condition("Ready")["message"]) == ("False", INVALID)


def test_while_a_spec_is_refused_nothing_that_it_asks_for_is_claimed() -> None:
    world, revision = refused_world()
    standing = {name: world.resource["status"][name] for name in ("rollout", "stableRevision", "url", "selector")}
    world.refuse(INVALID)
    assert statuses(world) == {
        "SpecAccepted": "False",
        "Stalled": "True",
        "Reconciling": "False",
        "Progressing": "False",
        "Ready": "False",
        "Available": "True",
        "ModelLoaded": "Unknown",
        "IdempotencyStoreReady": "Unknown",
        "RouteAccepted": "Unknown",
        "ScalingActive": "False",
    }
    scaling = world.condition("ScalingActive")
    assert (scaling["reason"], scaling["message"]) == ("Invalid", "Autoscaling has stopped until the spec is valid")
    assert standing.items() <= world.resource["status"].items()
    assert world.resource["status"]["stableRevision"] == revision
    assert {each["observedGeneration"] for each in world.resource["status"]["conditions"]} == {2}


def test_a_spec_that_is_refused_at_first_sight_claims_nothing() -> None:
    world = World(
        {"apiVersion": "onceserve.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "risk"}, "spec": SPEC}
    )
    world.refuse(INVALID)
    before = world.resource["status"]
    world.refuse(INVALID)
    assert world.resource["status"] == before
    assert (before["replicas"], before["readyReplicas"], "revisions" in before) == (0, 0, False)
    assert (world.condition("Available")["status"], world.condition("Available")["reason"]) == ("False", "Starting")
    assert [(event.reason, event.warning) for event in world.events] == [("Invalid", True)]


def test_a_spec_that_is_refused_while_no_pod_is_wanted_says_so() -> None:
    world, revision = new_world()
    world.pods(revision, ready=3)
    world.settle()
    world.change(replicas=0)
    world.roll_out()
    world.refuse(INVALID)
    assert (world.condition("Available")["status"], world.condition("Available")["reason"]) == ("False", "ScaledToZero")


def test_a_spec_that_is_mended_is_judged_as_ever() -> None:
    world, _ = refused_world()
    before = world.resource["status"]
    world.refuse(INVALID)
    world.change(replicas=3)
    world.settle()
    now = world.resource["status"]
    assert {each["type"]: each["status"] for each in now["conditions"]} == {
        each["type"]: each["status"] for each in before["conditions"]
    }


def test_a_spec_that_is_wrong_in_very_many_places_is_explained_as_far_as_there_is_room() -> None:
    world, _ = refused_world()
    words = "; ".join(f"spec.rollout.verification.requests.0.inputs.{number}.data: wrong" for number in range(1_000))
    world.refuse(words)
    assert world.condition("SpecAccepted")["message"] == words[:32_768] != words
