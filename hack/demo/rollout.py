"""The demo's part about rollouts: another model takes over under load, and one that answers wrongly is refused."""

import json
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from demo import pods
from demo.steps import say
from demo.tools import Tools, apply, kubectl
from devcluster.errors import ClusterError

EXAMPLE = Path(__file__).parents[2] / "examples" / "breast-cancer"
OLD, NEW = (f"configmap://breast-cancer/{file}" for file in ("model.onnx", "model-v2.onnx"))
CASE = 135
"""A held-out case, benign, that the first model gets wrong and the second right."""
CALLER, CALLER_SECONDS = "caller", 600
QUIET = 2
"""Seconds of load before and after a change."""

# Runs in a pod of its own; the end of its input ends it.
LOAD = """
import http.client, json, sys, threading, time
host, path, row = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
body = json.dumps({"inputs": [{"name": "X", "shape": [1, len(row)], "datatype": "FP32", "data": row}]})
over, lock, failures, revisions = threading.Event(), threading.Lock(), [], {}

def client(headers):
    connection = http.client.HTTPConnection(host, timeout=10)
    while not over.wait(0.01):
        try:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            said = response.read()
            if response.status != 200:
                raise OSError(f"{response.status} {said!r}")
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            with lock:
                failures.append(repr(error))
            continue
        with lock:
            now = time.time()
            seen = revisions.setdefault(json.loads(said)["model_version"], {"calls": 0, "first": now})
            seen["calls"] += 1
            seen["last"] = now

kept = {"Content-Type": "application/json"}
clients = [threading.Thread(target=client, args=[kept | more]) for more in ({}, {"Connection": "close"}) * 2]
for each in clients:
    each.start()
sys.stdin.read()
over.set()
for each in clients:
    each.join()
print(json.dumps({"failures": failures, "revisions": revisions}))
"""


def start_caller(tools: Tools, namespace: str, image: str) -> None:
    """Have a pod from which to ask."""
    kubectl(tools, "delete", "pod", CALLER, "-n", namespace, "--ignore-not-found", "--now")
    waits = ["/opt/onceserve/bin/python", "-c", f"import time; time.sleep({CALLER_SECONDS})"]
    metadata = {"name": CALLER, "namespace": namespace}
    apply(tools, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pods.spec(CALLER, image, waits)})
    kubectl(tools, "wait", "-n", namespace, f"pod/{CALLER}", "--for=condition=Ready", "--timeout=1m")


def take_over(tools: Tools, namespace: str, name: str) -> None:
    """Change the model by blue-green under load. Raises ClusterError if a call fails."""
    with load(tools, namespace, name) as seen:
        change(tools, namespace, name, {"model": {"uri": NEW, "sha256": None}, "rollout": rollout()})
        await_phases(tools, namespace, name, "Finalizing", "Stable")
    report(seen)
    if len(seen["revisions"]) != len((OLD, NEW)):
        raise ClusterError(f"two revisions were to answer, not {len(seen['revisions'])}")


def refuse(tools: Tools, namespace: str, name: str) -> None:
    """Ask for the model that gets a known case wrong, under load; then for the one that serves again."""
    with load(tools, namespace, name) as seen:
        change(tools, namespace, name, {"model": {"uri": OLD}})
        await_phases(tools, namespace, name, "Aborted")
        path = "jsonpath={.status.rollout.refused[0].reason}: {.status.rollout.message}"
        say(f"  {kubectl(tools, 'get', 'mdep', name, '-n', namespace, '-o', path)}")
    report(seen)
    if len(seen["revisions"]) != 1:
        raise ClusterError("the refused model has answered")
    change(tools, namespace, name, {"model": {"uri": NEW}, "rollout": None})


def rollout() -> dict[str, Any]:
    """Return how the model is changed: all at once, and only if a case whose answer is known is right."""
    asked = {"name": "X", "datatype": "FP32", "shape": [1, len(row())], "data": row()}
    expected = {"name": "label", "datatype": "INT64", "shape": [1], "data": [1]}
    return {
        "strategy": "BlueGreen",
        "blueGreen": {"scaleDownDelay": "3s"},
        "verification": {"requests": [{"inputs": [asked], "expected": [expected]}]},
    }


def row() -> list[float]:
    """Return the case whose answer is known."""
    known: list[float] = json.loads((EXAMPLE / "test-set.json").read_text())["rows"][CASE]
    return known


def change(tools: Tools, namespace: str, name: str, spec: dict[str, Any]) -> None:
    """Change fields of the spec."""
    patch = ["patch", "mdep", name, "-n", namespace, "--type=merge", "-p"]
    words = json.dumps({"spec": spec})
    say(f"  kubectl {shlex.join(patch)} '{words.replace(json.dumps(row()), '[…]')}'")
    kubectl(tools, *patch, words)


def await_phases(tools: Tools, namespace: str, name: str, *phases: str) -> None:
    """Wait until the rollout has come to one phase, then to the next."""
    for phase in phases:
        reached = f"--for=jsonpath={{.status.rollout.phase}}={phase}"
        kubectl(tools, "wait", "-n", namespace, f"mdep/{name}", reached, "--timeout=2m")


@contextmanager
def load(tools: Tools, namespace: str, name: str) -> Iterator[dict[str, Any]]:
    """Have clients ask and never retry for as long as the block takes; then fill in what they have seen."""
    seen: dict[str, Any] = {}
    called = [f"{name}.{namespace}.svc", f"/v2/models/{name}/infer", json.dumps(row())]
    python = ["/opt/onceserve/bin/python", "-c", LOAD, *called]
    command = [*tools.kubectl, "exec", "-i", CALLER, "-n", namespace, "--", *python]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        time.sleep(QUIET)
        yield seen
        time.sleep(QUIET)
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    seen |= json.loads(output)


def report(seen: dict[str, Any]) -> None:
    """Tell who answered when. Raises ClusterError if a call has failed."""
    failures, revisions = seen["failures"], seen["revisions"]
    answers = sum(each["calls"] for each in revisions.values())
    say(f"  calls of clients that never retry: {answers + len(failures)}, failed: {len(failures)}; answered by")
    for revision, each in sorted(revisions.items(), key=lambda item: item[1]["first"]):
        first, last = moment(each["first"]), moment(each["last"])
        say(f"    {revision}  {each['calls']:5} calls, from {first} to {last}")
    if failures:
        raise ClusterError(f"calls have failed: {failures[:3]}")


def moment(seconds: float) -> str:
    """Return a time of day, as precise as matters here."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S.%f")[:-4]
