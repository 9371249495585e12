"""What is made of pod statuses, in the forms in which kubelets report them."""

from datetime import UTC, datetime
from typing import Any

import pytest

from onceserve_contract import termination
from onceserve_contract.termination import Failure, FailureReason
from onceserve_operator.domain import Manifest, Problem
from onceserve_operator.kube import pods

MISMATCH = termination.encode(Failure(FailureReason.DIGEST_MISMATCH, "is a, must be b"))


def pod(state: Manifest | None = None, last: Manifest | None = None, **status: Any) -> Manifest:
    container = {"name": "server", "image": "example/server:1", "state": state or {}, "lastState": last or {}}
    return {"metadata": {"name": "p", "labels": {}}, "status": {"containerStatuses": [container], **status}}


def terminated(**fields: Any) -> Manifest:
    return {"terminated": {"exitCode": 1, **fields}}


NOT_STARTED = {"type": "PodReadyToStartContainers", "status": "False"}


def mounting(*secrets: str, started: str = "False") -> Manifest:
    volumes = [{"name": name, "secret": {"secretName": name}} for name in secrets]
    creating = pod(waiting("ContainerCreating"), conditions=[{**NOT_STARTED, "status": started}])
    return {**creating, "spec": {"volumes": [{"name": "model", "configMap": {"name": "model"}}, *volumes]}}


def waiting(reason: str, message: str = "") -> Manifest:
    return {"waiting": {"reason": reason, "message": message}}


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (pod({"running": {}}), None),
        (pod(waiting("ContainerCreating")), None),
        (
            pod(waiting("ImagePullBackOff", "Back-off pulling")),
            Problem("ImagePullFailed", "The image example/server:1 cannot be pulled"),
        ),
        (
            pod(waiting("InvalidImageName", "couldn't parse")),
            Problem("ImagePullFailed", "The image example/server:1 cannot be pulled", permanent=True),
        ),
        (
            pod(waiting("CreateContainerConfigError", 'secret "x" not found')),
            Problem("ContainerRefused", 'CreateContainerConfigError: secret "x" not found', permanent=True),
        ),
        (
            pod(terminated(message=MISMATCH)),
            Problem("DigestMismatch", "is a, must be b", permanent=True, about_model=True),
        ),
        (
            pod(waiting("CrashLoopBackOff"), terminated(message=MISMATCH)),
            Problem("DigestMismatch", "is a, must be b", permanent=True, about_model=True),
        ),
        (
            pod({"running": {}}, terminated(message=MISMATCH)),
            Problem("DigestMismatch", "is a, must be b", permanent=True, about_model=True),
        ),
        (
            pod(terminated(message="Traceback\nRuntimeError: no\n", exitCode=139)),
            Problem("Crashed", "The server ended with exit code 139: RuntimeError: no"),
        ),
        (pod(terminated()), Problem("Crashed", "The server ended with exit code 1: it left no message")),
        (
            pod(terminated(reason="OOMKilled", exitCode=137)),
            Problem("OutOfMemory", "The server was killed for exceeding its memory limit"),
        ),
        (
            pod(conditions=[{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]),
            Problem("Unschedulable", "0/3 nodes are available"),
        ),
        (
            mounting("keys", "certificate"),
            Problem(
                "SecretAwaited", "The pods start when what they mount is there: Secret keys and Secret certificate"
            ),
        ),
        (mounting("keys", started="True"), None),
        (mounting(), None),
        ({"metadata": {"name": "p"}}, None),
    ],
)
def test_a_pod_s_trouble_is_told_in_words(status: Manifest, problem: Problem | None) -> None:
    assert pods.read(status).problem == problem


def test_a_ready_pod_has_no_problem_whatever_came_before() -> None:
    recovered = pod({"running": {}}, terminated(), conditions=[{"type": "Ready", "status": "True"}])
    assert (pods.read(recovered).ready, pods.read(recovered).problem) == (True, None)


def test_a_leaving_pod_is_neither_ready_nor_in_trouble() -> None:
    leaving = pod(terminated(), conditions=[{"type": "Ready", "status": "True"}])
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    read = pods.read(leaving)
    assert (read.ready, read.leaving, read.problem) == (False, True, None)
    assert read.gone_by == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(("phase", "over"), [("Failed", True), ("Succeeded", True), ("Running", False)])
def test_an_ended_pod_is_only_a_record(phase: str, over: bool) -> None:
    assert pods.is_over({"status": {"phase": phase}}) is over


def test_what_ended_a_container_before_it_started_is_history_once_it_has() -> None:
    unready = pod({"running": {}}, terminated(message=MISMATCH))
    unready["status"]["containerStatuses"][0]["started"] = True
    assert pods.read(unready).problem is None
