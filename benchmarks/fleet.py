"""The operator with very many ModelDeployments, on a real control plane; pods are reported ready for the kubelets."""

import dataclasses
import itertools
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from kubernetes.config import new_client_from_config

from benchmarks import machine, memory
from devcluster.cluster import Cluster, control_plane
from support.api_server import Api
from support.modeldeployments import collection, deployment
from support.operator_process import USER, OperatorProcess, install_rights
from support.pods import answering
from support.rollouts import Deployed
from support.waiting import eventually

CRD: Final = Path(__file__).parents[1] / "crds" / "modeldeployments.onceserve.dev.yaml"
RESYNC: Final = 60.0
"""Seconds, as by default."""
CHANGES: Final = 20
PATIENCE: Final = 600.0
"""Seconds that anything may take."""


@dataclasses.dataclass(frozen=True)
class Fleet:
    """What the operator took for so many resources."""

    resources: int
    created: float
    """Seconds from the first creation until all are Ready."""
    restart: float
    """Seconds from the start of another operator until it has looked at all."""
    restart_calls: Mapping[str, int]
    """Calls to the API server until then, by verb."""
    restart_writes: int
    steady_calls: Mapping[str, float]
    """Calls a minute when nothing happens, by verb."""
    steady_cpu: float
    """Seconds of processor time a minute when nothing happens."""
    rss: float
    """Mebibytes."""
    change_median: float
    change_worst: float
    """Seconds from a creation to its Deployment, while all others are there."""


def measure(sizes: Sequence[int], scratch: Path) -> list[Fleet]:
    """Return what the operator takes for each number of resources, of which each must be more than the one before."""
    with control_plane("fleet", scratch / "cluster") as cluster, answering(scratch / "pods"):
        cluster.kubectl("apply", "-f", str(CRD))
        cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(CRD))
        kubeconfig = install_rights(cluster, scratch)
        with new_client_from_config(str(cluster.kubeconfig)) as client:
            api = Api(client)
            return [_measure(cluster, api, kubeconfig, size, scratch) for size in sizes]


def _measure(cluster: Cluster, api: Api, kubeconfig: Path, size: int, scratch: Path) -> Fleet:
    _say(f"{size} resources")
    with _operator(kubeconfig, scratch) as operator:
        created = _timed(lambda: _fill(api, size))
        changes = [_created_child(api, size, number) for number in range(CHANGES)]
        _empty(api, CHANGES)
    mark = time.time()
    with _operator(kubeconfig, scratch) as operator:
        restart = _timed(
            lambda: eventually(lambda: operator.metric("onceserve_operator_reconcile_total") >= size, "all", PATIENCE)
        )
        restarted = _calls(cluster, mark)
        # What the restart has left to do is not what a minute takes.
        time.sleep(10)
        mark, cpu = time.time(), _cpu(operator)
        time.sleep(2 * RESYNC)
        steady, spent = _calls(cluster, mark), _cpu(operator) - cpu
        rss = memory.of([operator.pid]).rss
    writes = sum(number for verb, number in restarted.items() if verb not in {"get", "list", "watch"})
    return Fleet(
        resources=size,
        created=round(created, 1),
        restart=round(restart, 1),
        restart_calls=dict(restarted),
        restart_writes=writes,
        steady_calls={verb: round(number / 2, 1) for verb, number in steady.items()},
        steady_cpu=round(spent / 2, 2),
        rss=round(rss, 1),
        change_median=round(statistics.median(changes), 3),
        change_worst=round(max(changes), 3),
    )


@contextmanager
def _operator(kubeconfig: Path, scratch: Path) -> Iterator[OperatorProcess]:
    operator = OperatorProcess(kubeconfig, scratch / "operator.log", RESYNC)
    operator.start()
    try:
        yield operator
    finally:
        operator.stop()


def _namespace(number: int) -> str:
    return f"fleet-{number % 10}"


def _fill(api: Api, size: int) -> None:
    """Have so many resources, each with one ready pod."""
    for number in range(10):
        api.create("/api/v1/namespaces", {"metadata": {"name": f"fleet-{number}"}})
    spec = {"replicas": 1, "model": {"uri": "https://models.example/a.onnx"}}
    for number in range(size):
        api.create(collection(_namespace(number)), deployment(spec, f"model-{number}"))
    eventually(lambda: _followed(api) >= size, f"{size} resources are Ready", PATIENCE)


def _followed(api: Api) -> int:
    """Report the pods ready that are there by now; return how many resources are Ready."""
    pods = api.get("/api/v1/pods?labelSelector=onceserve.dev%2Fmodeldeployment").body["items"]
    for pod in pods:
        if "podIP" not in pod["status"]:
            owner = pod["metadata"]["labels"]["onceserve.dev/modeldeployment"]
            Deployed(api, pod["metadata"]["namespace"], owner).report_ready([pod])
    resources = api.get(collection("").replace("/namespaces/", "")).body["items"]
    return sum(_is_ready(resource) for resource in resources)


def _is_ready(resource: Mapping[str, Any]) -> bool:
    conditions = resource.get("status", {}).get("conditions", [])
    return any((each["type"], each["status"]) == ("Ready", "True") for each in conditions)


def _created_child(api: Api, size: int, number: int) -> float:
    """Return the seconds from the creation of one more resource until it has its Deployment."""
    spec = {"replicas": 0, "model": {"uri": f"https://models.example/{size}.onnx"}}
    start = time.monotonic()
    one = Deployed.create(api, _namespace(number), spec, f"more-{number}")
    eventually(lambda: one.children("deployments"), "a Deployment", PATIENCE, 0.01)
    return time.monotonic() - start


def _empty(api: Api, number: int) -> None:
    for one in range(number):
        api.delete(f"{collection(_namespace(one))}/more-{one}")


def _calls(cluster: Cluster, since: float) -> Counter[str]:
    """Return the operator's calls since a moment, by verb, as the API server's audit log has them."""
    lines = reversed(cluster.audit_log.read_text().splitlines())
    entries = (json.loads(line) for line in lines)
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(since))
    recent = itertools.takewhile(lambda entry: entry["requestReceivedTimestamp"] >= moment, entries)
    return Counter(entry["verb"] for entry in recent if entry["user"]["username"] == USER)


def _cpu(operator: OperatorProcess) -> float:
    fields = Path(f"/proc/{operator.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _timed(action: Callable[[], object]) -> float:
    start = time.monotonic()
    action()
    return time.monotonic() - start


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def report(found: Sequence[Fleet], seen: machine.Machine, command: str) -> str:
    """Return the figures as Markdown."""
    names = {
        "created": "all created and Ready, s",
        "restart": "looked at by a restarted operator, s",
        "restart_writes": "writes by it",
        "steady_cpu": "processor time a minute, s",
        "rss": "resident, MB",
        "change_median": "creation to Deployment, median s",
        "change_worst": "the same, worst s",
    }
    head = ["ModelDeployments", *(str(one.resources) for one in found)]
    rows = [[name, *(str(getattr(one, field)) for one in found)] for field, name in names.items()]
    verbs = sorted({verb for one in found for verb in one.steady_calls})
    rows += [[f"`{verb}` a minute", *(str(one.steady_calls.get(verb, 0)) for one in found)] for verb in verbs]
    lines = [head, ["---"] * len(head), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"# The operator with many resources\n\n`{command}`, {seen.cpu}, {seen.cores} cores\n\n{table}\n"
