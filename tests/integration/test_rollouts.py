"""Rollouts on a real API server with its controllers: what the operator writes, and what people can ask of it."""

import signal
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from devcluster.cluster import Cluster
from support.api_server import Api
from support.operator_process import OperatorProcess, install_rights, running_operator
from support.pods import DIGEST, RIGHT, WRONG
from support.rollouts import Deployed
from support.waiting import eventually, steadily

SPEC: dict[str, Any] = {"replicas": 3, "model": {"uri": "https://models.example/a.onnx"}}
OTHER_MODEL = {"uri": "https://models.example/b.onnx"}
THIRD_MODEL = {"uri": "https://models.example/c.onnx"}
CANARY = {"strategy": "Canary", "canary": {"steps": [{"weight": 25}, {"pause": {}}]}}
BLUE_GREEN = {"strategy": "BlueGreen", "blueGreen": {"promotion": "Manual", "scaleDownDelay": "3s"}}


@pytest.fixture(scope="module")
def operator(
    cluster: Cluster, definition: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    kubeconfig = install_rights(cluster, tmp_path_factory.mktemp("operator"))
    with running_operator(kubeconfig, tmp_path_factory.mktemp("log")) as process:
        yield process


_nonces = count(1)


class Rollout(Deployed):
    """A ModelDeployment whose rollouts are watched."""

    @property
    def rollout(self) -> dict[str, Any]:
        found: dict[str, Any] = self.status()["rollout"]
        return found

    def await_phase(self, phase: str) -> str:
        """Wait for a phase; return its message."""
        eventually(lambda: self.rollout["phase"] == phase, f"{phase}, not {self.rollout}")
        return str(self.rollout["message"])

    def command(self, words: str) -> None:
        """Ask something of the rollout, as a person does."""
        value = f"{words} #{next(_nonces)}"
        answer = self.api.merge(self.path, {"metadata": {"annotations": {"onceserve.dev/command": value}}})
        assert answer.accepted, answer.body

    def replicas(self) -> dict[str, int]:
        """Return the wanted pods of each revision."""
        return {each["metadata"]["name"]: each["spec"]["replicas"] for each in self.children("deployments")}

    def begin(self, **spec: Any) -> tuple[str, str]:
        """Change the spec; return the old and the new revision, whose first pods are awaited."""
        old = self.routed_revision()
        self.change(spec)
        new = self.await_target(other_than=old)
        eventually(lambda: self.replicas().get(new), f"pods of {new}")
        return str(old), new


@pytest.fixture
def serving(api: Api, namespace: str, operator: OperatorProcess) -> Rollout:
    created = Rollout.create(api, namespace, SPEC)
    revision = created.await_target()
    created.report_ready(created.await_pods(revision, 3))
    created.complete(revision)
    return created


def selector(deployed: Deployed, service: str = "risk") -> dict[str, str]:
    found = deployed.child("services", service)
    assert found is not None
    labels: dict[str, str] = found["spec"]["selector"]
    return labels


def test_a_first_revision_gets_no_traffic_before_it_is_verified(
    api: Api, namespace: str, operator: OperatorProcess
) -> None:
    created = Rollout.create(api, namespace, SPEC)
    revision = created.await_target()
    created.report_ready(created.await_pods(revision, 3), WRONG)
    created.await_condition("Ready", "False", "SmokeTestFailed")
    assert selector(created)["onceserve.dev/revision"] == ""
    assert "the model divides by zero" in created.await_phase("Aborted")
    assert created.status().get("stableRevision") is None
    assert ("Warning", "RolloutAborted") in created.events()


def test_a_revision_with_wrong_answers_is_refused_until_the_spec_changes_or_somebody_retries(serving: Rollout) -> None:
    old, new = serving.begin(model=OTHER_MODEL)
    serving.follow(new, WRONG)
    assert "the model divides by zero" in serving.await_phase("Aborted")
    message = serving.await_condition("Ready", "False", "SmokeTestFailed")
    assert message.endswith(f"({old} goes on serving)")
    serving.await_condition("Available", "True")
    assert serving.replicas() == {old: 3, new: 0}
    serving.change({"replicas": 4})
    eventually(lambda: serving.replicas() == {old: 4, new: 0}, "4 pods of the old one")
    serving.command("retry")
    eventually(lambda: serving.replicas()[new] == 1, "a pod of the new one")
    serving.complete(new)


def test_a_digest_that_the_spec_does_not_have_is_refused(serving: Rollout) -> None:
    _, new = serving.begin(model={"sha256": "a" * 64, **OTHER_MODEL})
    serving.follow(new)
    message = serving.await_condition("Ready", "False", "DigestMismatch")
    assert DIGEST in message
    serving.await_phase("Aborted")


def test_a_canary_waits_with_its_share_of_pods_until_somebody_promotes(serving: Rollout) -> None:
    old, new = serving.begin(model=OTHER_MODEL, rollout=CANARY)
    assert (serving.routed_revision(), serving.replicas()) == (old, {old: 3, new: 1})
    serving.follow(new)
    assert "until somebody promotes" in serving.await_phase("Paused")
    assert "onceserve.dev/revision" not in selector(serving)
    assert (serving.replicas(), serving.rollout["weight"]) == ({old: 3, new: 1}, 25)
    steadily(lambda: serving.rollout["phase"] == "Paused", "nobody goes on", 1)
    serving.command("promote")
    serving.complete(new)
    eventually(lambda: serving.replicas() == {old: 0, new: 3}, "the old pods are gone")
    assert ("Normal", "RolloutComplete") in serving.events()


def test_blue_green_waits_behind_its_preview_and_goes_back_at_once(serving: Rollout) -> None:
    old, new = serving.begin(model=OTHER_MODEL, rollout=BLUE_GREEN)
    serving.report_ready(serving.await_pods(new, 3))
    serving.await_phase("Paused")
    assert (serving.routed_revision(), serving.replicas()) == (old, {old: 3, new: 3})
    assert selector(serving, "risk-preview")["onceserve.dev/revision"] == new
    serving.command("promote")
    serving.await_phase("Finalizing")
    assert (serving.routed_revision(), serving.replicas()) == (new, {old: 3, new: 3})
    serving.command("rollback")
    eventually(lambda: serving.routed_revision() == old, "the old one has traffic again")
    assert "aborted by command" in serving.await_phase("Aborted")
    eventually(lambda: serving.replicas() == {old: 3, new: 0}, "the new pods are gone")
    serving.change({"rollout": {"strategy": "RollingUpdate", "blueGreen": None}})
    eventually(lambda: serving.child("services", "risk-preview") is None, "no preview any more")


def test_a_rollout_is_paused_and_aborted_by_command(serving: Rollout) -> None:
    old, new = serving.begin(model=OTHER_MODEL)
    serving.command("pause")
    assert "paused by command" in serving.await_phase("Paused")
    serving.follow(new)
    steadily(lambda: serving.rollout["phase"] == "Paused", "nothing goes on", 1)
    serving.command("abort")
    serving.await_phase("Aborted")
    assert serving.replicas() == {old: 3, new: 0}


def test_a_command_that_is_none_is_answered(serving: Rollout) -> None:
    serving.command("explode")
    eventually(lambda: ("Warning", "CommandRefused") in serving.events(), "an answer")


def test_going_back_to_a_former_revision_is_scaling_it(serving: Rollout) -> None:
    old, new = serving.begin(model=OTHER_MODEL)
    serving.complete(new)
    revisions = {each["metadata"]["uid"] for each in serving.children("controllerrevisions")}
    serving.command("rollback")
    eventually(lambda: serving.replicas()[old] == 1, "a pod of the former revision")

    def back() -> bool:
        serving.follow(old)
        return serving.routed_revision() == old

    eventually(back, "the former revision serves")
    assert "rolled back" in serving.await_phase("Aborted")
    assert {each["metadata"]["uid"] for each in serving.children("controllerrevisions")} == revisions


def test_a_rollout_without_progress_is_given_up(serving: Rollout) -> None:
    old, new = serving.begin(model=OTHER_MODEL, rollout={"progressDeadline": "2s"})
    assert "no progress for 2 s" in serving.await_phase("Aborted")
    assert serving.replicas() == {old: 3, new: 0}


def test_superseded_while_traffic_shifts_the_old_one_is_back_before_the_next_begins(serving: Rollout) -> None:
    old, new = serving.begin(model=OTHER_MODEL)
    serving.follow(new)
    serving.await_phase("Shifting")
    serving.change({"model": THIRD_MODEL})
    third = serving.await_target(other_than=new)

    def back() -> bool:
        serving.follow(old)
        assert not (third in serving.replicas() and serving.replicas()[third] and serving.routed_revision() is None)
        return serving.routed_revision() == old

    eventually(back, "the old one has all traffic")
    serving.complete(third)
    eventually(lambda: serving.replicas() == {old: 0, new: 0, third: 3}, "the third alone")


@pytest.mark.parametrize(("phase", "address"), [("Paused", RIGHT), ("Aborted", WRONG)])
def test_revisions_whose_records_are_deleted_go_on_and_are_recorded_anew(
    serving: Rollout, phase: str, address: str
) -> None:
    old, new = serving.begin(model=OTHER_MODEL, rollout=CANARY)
    serving.report_ready(serving.await_pods(new, 1), address)
    serving.await_phase(phase)
    eventually(lambda: len(_of(serving, "pods")) == (4 if phase == "Paused" else 3), "its pods are as the phase has it")
    before = _of(serving, "pods"), _of(serving, "deployments")
    for revision in (old, new):
        serving.delete_child("controllerrevisions", revision)
    eventually(lambda: _of(serving, "controllerrevisions").keys() == {old, new}, "both recorded anew")
    steadily(lambda: (_of(serving, "pods"), _of(serving, "deployments")) == before, "nothing else changes", 1)
    assert (serving.rollout["phase"], serving.status()["stableRevision"]) == (phase, old)
    serving.command("promote" if phase == "Paused" else "retry")
    if phase == "Aborted":
        serving.report_ready(serving.await_pods(new, 1))
        serving.await_phase("Paused")
        serving.command("promote")
    serving.complete(new)


def _of(deployed: Deployed, plural: str) -> dict[str, str]:
    """Return which objects these are: their uids by their names."""
    children = (each["metadata"] for each in deployed.children(plural))
    return {each["name"]: each["uid"] for each in children}


@pytest.mark.parametrize("phase", ["Verifying", "Shifting", "Paused"])
def test_an_operator_killed_in_any_phase_is_replaced_without_a_trace(
    serving: Rollout, operator: OperatorProcess, phase: str
) -> None:
    rollout = CANARY if phase == "Paused" else {"strategy": "RollingUpdate"}
    old, new = serving.begin(model=OTHER_MODEL, rollout=rollout)
    pods = serving.await_pods(new, 1)
    if phase == "Verifying":
        operator.stop(signal.SIGKILL)
        serving.report_ready(pods)
    else:
        serving.report_ready(pods)
        serving.await_phase(phase)
        operator.stop(signal.SIGKILL)
    before = serving.rollout
    operator.start()
    if phase == "Paused":
        steadily(lambda: serving.rollout["phase"] == "Paused", "it goes on waiting", 1)
        assert serving.rollout["startedAt"] == before["startedAt"]
        serving.command("promote")
    serving.complete(new)
    eventually(lambda: serving.replicas() == {old: 0, new: 3}, "the old pods are gone")


def test_where_it_stands_is_a_metric(serving: Rollout, operator: OperatorProcess) -> None:
    serving.begin(model=OTHER_MODEL, rollout=BLUE_GREEN)
    where = {"namespace": serving.namespace, "name": "risk"}
    eventually(
        lambda: operator.metric("onceserve_operator_rollout_phase", phase="Preparing", **where) == 1, "the phase"
    )
    assert operator.metric("onceserve_operator_rollout_phase", **where) == 1
    assert operator.metric("onceserve_operator_desired_replicas", **where) == 3
    assert serving.api.delete(serving.path).accepted
    eventually(lambda: operator.metric("onceserve_operator_rollout_phase", **where) == 0, "nothing is told any more")
