"""The demo's part about exactly-once: one key, asked for again while the pod that answered is killed."""

import json
import shlex
import uuid
from typing import Any

from demo.steps import indent, say
from demo.tools import Tools, apply, kubectl
from devcluster.errors import ClusterError

STORE = "onceserve-store"
RETRIES = 5
IDEMPOTENCY = {"store": {"type": "Redis", "urlFrom": {"secretKeyRef": {"name": STORE, "key": "url"}}}}

# Runs in a pod that serves, which has a Python and reaches the Service as any application would.
ASK = """
import hashlib, json, sys, time, urllib.request
url, key, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
headers = {"Content-Type": "application/json", "Idempotency-Key": f'"{key}"', "Connection": "close"}
row = [float(number) for number in range(1, 31)]
body = json.dumps({"inputs": [{"name": "X", "shape": [1, 30], "datatype": "FP32", "data": row}]}).encode()
answers, failures, deadline = [], 0, time.monotonic() + 60
while len(answers) < times and time.monotonic() < deadline:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=3) as answer:
            answers.append({
                "pod": answer.headers["onceserve-pod"],
                "replayed": answer.headers["idempotent-replayed"] == "true",
                "sha256": hashlib.sha256(answer.read()).hexdigest(),
            })
    except OSError:
        failures += 1
        time.sleep(0.2)
if len(answers) < times:
    sys.exit(f"{len(answers)} of {times} answers within a minute")
print(json.dumps({"answers": answers, "failures": failures}))
"""


def give_store(tools: Tools, system: str, namespace: str, name: str) -> None:
    """Give the model the store's URL, and have it answer each key once; return when all its pods do."""
    url = kubectl(tools, "get", "secret", STORE, "-n", system, "-o", "go-template={{.data.url | base64decode}}")
    metadata = {"name": STORE, "namespace": namespace}
    apply(tools, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"url": url}})
    patch = json.dumps({"spec": {"idempotency": IDEMPOTENCY}})
    indent(kubectl(tools, "patch", "mdep", name, "-n", namespace, "--type=merge", "-p", patch))
    for condition in ("IdempotencyStoreReady", "Ready", "Reconciling=False"):
        kubectl(tools, "wait", "-n", namespace, f"mdep/{name}", f"--for=condition={condition}", "--timeout=3m")


def retry(tools: Tools, namespace: str, name: str) -> None:
    """Ask with one key, kill the pod that answered, ask again and compare."""
    key = str(uuid.uuid4())
    url = f"http://{name}.{namespace}.svc/v2/models/{name}/infer"
    callers = serving(tools, namespace, name)
    say(f"  Idempotency-Key: {key}")
    [first] = ask(tools, namespace, callers[0], url, key, times=1)["answers"]
    say(f"  first answer by {first['pod']}: sha256 {first['sha256'][:16]}…")
    kill = ["delete", "pod", first["pod"], "-n", namespace, "--grace-period=0", "--force", "--wait=false"]
    say(f"  kubectl {shlex.join(kill)}")
    kubectl(tools, *kill)
    caller = next(pod for pod in callers if pod != first["pod"])
    compare(first, **ask(tools, namespace, caller, url, key, times=RETRIES))


def serving(tools: Tools, namespace: str, name: str) -> list[str]:
    """Return the pods that are to stay."""
    selector = f"onceserve.dev/modeldeployment={name}"
    pods = json.loads(kubectl(tools, "get", "pods", "-n", namespace, "-l", selector, "-o", "json"))["items"]
    return [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def ask(tools: Tools, namespace: str, caller: str, url: str, key: str, *, times: int) -> dict[str, Any]:
    """Return so many `answers`, asked for by a pod, and how many `failures` there were meanwhile."""
    said = kubectl(tools, "exec", caller, "-n", namespace, "--", "python", "-c", ASK, url, key, str(times))
    seen: dict[str, Any] = json.loads(said)
    return seen


def compare(first: dict[str, Any], answers: list[dict[str, Any]], failures: int) -> None:
    """Tell whether retries were answered as the first call was. Raises ClusterError if not."""
    same = sum(answer["sha256"] == first["sha256"] for answer in answers)
    pods = len({answer["pod"] for answer in answers} - {first["pod"]})
    replayed = sum(answer["replayed"] for answer in answers)
    say(f"  answers to retries: {len(answers)}, by {pods} other pods; calls that met a dead pod: {failures}")
    say(f"  the same bytes: {same} of {RETRIES}, of them replayed from the store and not run again: {replayed}")
    if same < RETRIES:
        raise ClusterError("not every retry was given the first answer")
