"""The breast-cancer example on a real cluster, and what a test does to it and reads of it."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import yaml

from devcluster.cluster import Cluster
from support import loading
from support.loading import CLIENT_NODE, Load, Window
from support.waiting import PATIENCE, eventually

EXAMPLE = Path(__file__).parents[2] / "examples" / "breast-cancer"
ROWS: list[list[float]] = json.loads((EXAMPLE / "test-set.json").read_text())["rows"]


class Served:
    """One ModelDeployment in a namespace."""

    name = "breast-cancer"

    def __init__(self, cluster: Cluster, namespace: str, name: str = name) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.name = name

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl in the namespace."""
        return self.cluster.kubectl("--namespace", self.namespace, *arguments, stdin=stdin)

    def create(self) -> None:
        """Apply the example as the README says."""
        self.create_models()
        self.kubectl("apply", "-f", str(EXAMPLE / "modeldeployment.yaml"))

    def create_models(self) -> None:
        """Keep the models of the example in the namespace."""
        for name, file in {"breast-cancer": "model.onnx", "breast-cancer-v2": "model-v2.onnx"}.items():
            self.kubectl("create", "configmap", name, f"--from-file=model.onnx={EXAMPLE / file}")

    def apply(self, name: str, spec: dict[str, Any]) -> None:
        """Apply a further ModelDeployment."""
        metadata = {"name": name, "namespace": self.namespace}
        manifest = {
            "apiVersion": "onceserve.dev/v1alpha1",
            "kind": "ModelDeployment",
            "metadata": metadata,
            "spec": spec,
        }
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(manifest))

    def patch(self, spec: dict[str, Any]) -> None:
        """Change fields of the spec."""
        self.kubectl("patch", "mdep", self.name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def replace(self, spec: dict[str, Any]) -> int:
        """Replace whole fields of the spec; return the generation that has them."""
        changes = [{"op": "add", "path": f"/spec/{name}", "value": value} for name, value in spec.items()]
        asked = self.kubectl("patch", "mdep", self.name, "--type=json", "-p", json.dumps(changes), "-o", "json")
        generation: int = json.loads(asked)["metadata"]["generation"]
        return generation

    def wait(self, condition: str, name: str = "") -> None:
        """Have kubectl wait for a condition."""
        self.kubectl("wait", f"mdep/{name or self.name}", f"--for=condition={condition}", f"--timeout={PATIENCE:.0f}s")

    def wait_complete(self) -> None:
        """Wait until it serves with all its replicas."""
        self.wait("Ready")
        self.wait("Reconciling=False")

    def get(self, what: str, *arguments: str) -> Any:
        """Return an object or a list as data."""
        return json.loads(self.kubectl("get", what, *arguments, "-o", "json"))

    def status(self, name: str = "") -> dict[str, Any]:
        """Return a ModelDeployment's status."""
        status: dict[str, Any] = self.get(f"mdep/{name or self.name}").get("status", {})
        return status

    def condition(self, kind: str, name: str = "") -> dict[str, Any]:
        """Return a condition; empty where it is not known."""
        conditions = self.status(name).get("conditions", [])
        return next((each for each in conditions if each["type"] == kind), {})

    def every_pod(self) -> list[dict[str, Any]]:
        """Return its pods, also those that are on their way out."""
        items: list[dict[str, Any]] = self.get("pods", "-l", f"onceserve.dev/modeldeployment={self.name}")["items"]
        return items

    def pods(self) -> list[dict[str, Any]]:
        """Return its pods that are not on their way out."""
        return [pod for pod in self.every_pod() if "deletionTimestamp" not in pod["metadata"]]

    def ready_pods(self) -> list[str]:
        """Return the names of its pods that are ready."""
        return [pod["metadata"]["name"] for pod in self.pods() if _is_ready(pod)]

    @property
    def url(self) -> str:
        """Where the Service answers, by its address: nodes do not ask the cluster's DNS."""
        address = self.get(f"service/{self.name}")["spec"]["clusterIP"]
        return f"http://{address}/v2/models/{self.name}/infer"

    @contextmanager
    def load(self, connections: str = "new") -> Iterator[Window]:
        """Ask without pause and without retries from within the cluster, for as long as the block takes."""
        seen = Window()
        with self.running_load(f"closed,{connections},4") as load:
            yield seen
            seen.add(load.end())

    def running_load(self, *clients: str) -> AbstractContextManager[Load]:
        """Have clients ask from within the cluster, as `load.py` describes them, once their node knows the Service."""
        # Ready is a moment ahead of the nodes.
        asking = ["curl", "--silent", "--max-time", "5", self.url]
        eventually(lambda: self.cluster.exec(CLIENT_NODE, asking).returncode == 0, "the Service answers")
        return loading.running(self.cluster, self.url, request_body(ROWS[:1]), clients)

    def describe(self) -> str:
        """Return what a person would look at when something is wrong."""
        looks = (["describe", "mdep"], ["get", "pods", "-o", "wide"], ["get", "events", "--sort-by=.lastTimestamp"])
        return "\n".join(self.kubectl(*look) for look in looks)


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def request_body(rows: list[list[float]]) -> bytes:
    """Return an inference request for some rows."""
    tensor = {"name": "X", "datatype": "FP32", "shape": [len(rows), len(rows[0])], "data": rows}
    return json.dumps({"inputs": [tensor]}).encode()


def expected(rows: list[list[float]], model: str = "model.onnx") -> dict[str, list[Any]]:
    """Return what onnxruntime itself answers, by output."""
    session = onnxruntime.InferenceSession(EXAMPLE / model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    values = session.run(names, {"X": np.array(rows, dtype=np.float32)})
    return {name: value.ravel().tolist() for name, value in zip(names, values, strict=True)}


def answered(body: str) -> dict[str, list[Any]]:
    """Return the outputs of an answer, in the precision of the model."""
    outputs = json.loads(body)["outputs"]
    kinds = {"FP32": np.float32, "INT64": np.int64}
    return {each["name"]: np.array(each["data"], dtype=kinds[each["datatype"]]).tolist() for each in outputs}


@contextmanager
def serving(cluster: Cluster, namespace: str, **spec: Any) -> Iterator[Served]:
    """Have the example served in a namespace of its own for the duration of a block; `spec` is what differs."""
    cluster.kubectl("create", "namespace", namespace)
    example = Served(cluster, namespace)
    example.create()
    if spec:
        example.patch(spec)
    example.wait_complete()
    yield example
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def await_ready_pods(served: Served, number: int) -> list[str]:
    """Wait until exactly this many pods are ready; return their names."""

    def found() -> list[str]:
        ready = served.ready_pods()
        return ready if len(ready) == number else []

    return eventually(found, f"{number} ready pods")
