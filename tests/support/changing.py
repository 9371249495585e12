"""The breast-cancer example, changed again and again to revisions that have never been."""

import json
from itertools import count
from typing import Any

from support.loading import CLIENT_NODE
from support.served import ROWS, Served, answered, expected, request_body
from support.waiting import eventually

MODELS = {
    "model.onnx": "configmap://breast-cancer/model.onnx",
    "model-v2.onnx": "configmap://breast-cancer-v2/model.onnx",
}
ANSWERS = {file: expected(ROWS[:1], file) for file in MODELS}


class Changes:
    """What is asked of the example, and what becomes of it."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self._numbers = count(1)
        given = served.get(f"mdep/{served.name}")["spec"]
        self._asked = {self.serving(): {part: given.get(part, {}) for part in ("model", "server", "batching")}}

    def ask(self, *, rollout: dict[str, Any], **spec: Any) -> str:
        """Ask for a revision that has never been, of the model that does not serve now; return its name."""
        uri = next(uri for file, uri in MODELS.items() if file != self.model(self.serving()))
        number = {"name": "NUMBER", "value": str(next(self._numbers))}
        wanted = {"model": {"uri": uri}, "batching": {}, **spec, "server": {"env": [number], **spec.get("server", {})}}
        revision = self._replace({"rollout": rollout, **wanted})
        self._asked[revision] = wanted
        return revision

    def ask_again(self, revision: str) -> None:
        """Ask for a revision that has been."""
        assert self._replace(self._asked[revision]) == revision

    def _replace(self, wanted: dict[str, Any]) -> str:
        generation = self.served.replace(wanted)
        eventually(lambda: self._status().get("observedGeneration", 0) >= generation, "the change is seen")
        target: str = self._status()["targetRevision"]
        return target

    def model(self, revision: str) -> str:
        """Return the file that a revision serves."""
        uri = self._asked[revision]["model"]["uri"]
        return next(file for file, each in MODELS.items() if each == uri)

    def is_right(self, body: str) -> bool:
        """Say whether an answer is the one that the model of its revision gives."""
        return answered(body) == ANSWERS[self.model(json.loads(body)["model_version"])]

    def golden(self, revision: str) -> dict[str, Any]:
        """Return a verification that asks for the answers of a revision's model."""
        asked = json.loads(request_body(ROWS[:1]))["inputs"]
        [probabilities] = (ANSWERS[self.model(revision)]["probabilities"],)
        wanted = {"name": "probabilities", "datatype": "FP32", "shape": [1, 2], "data": probabilities}
        return {"requests": [{"inputs": asked, "expected": [wanted], "tolerance": "0.001"}]}

    def command(self, verb: str) -> None:
        """Command the rollout as people do."""
        annotation = f"onceserve.dev/command={verb} {next(self._numbers)}"
        self.served.kubectl("annotate", "mdep", self.served.name, annotation, "--overwrite")

    def _status(self) -> dict[str, Any]:
        return self.served.status()

    def serving(self) -> str:
        """Return the revision that serves."""
        stable: str = self._status()["stableRevision"]
        return stable

    def await_phase(self, *phases: str) -> dict[str, Any]:
        """Wait until the rollout is in one of these phases; return what the status says of it."""

        def found() -> dict[str, Any]:
            rollout: dict[str, Any] = self._status().get("rollout", {})
            return rollout if rollout.get("phase") in phases else {}

        return eventually(found, f"phase {' or '.join(phases)}")

    def await_stable(self, revision: str) -> None:
        """Wait until a change is over, and this revision serves."""

        def over() -> bool:
            status = self._status()
            return (status["rollout"]["phase"], status["stableRevision"]) == ("Stable", revision)

        eventually(over, f"{revision} is stable")

    def await_refusal(self, revision: str) -> dict[str, str]:
        """Wait until a revision has been given up, and the one before serves; return why."""
        rollout = self.await_phase("Aborted")
        refusals: list[dict[str, str]] = rollout["refused"]
        [refusal] = [each for each in refusals if each["revision"] == revision]
        assert self.serving() != revision
        return refusal

    def preview(self) -> str:
        """Return what the preview Service answers."""
        address = self.served.get(f"service/{self.served.name}-preview")["spec"]["clusterIP"]
        url = f"http://{address}/v2/models/{self.served.name}/infer"
        asking = [
            "curl",
            "--silent",
            "--show-error",
            "--max-time",
            "10",
            "--json",
            request_body(ROWS[:1]).decode(),
            url,
        ]
        done = self.served.cluster.exec(CLIENT_NODE, asking)
        assert done.returncode == 0, done.stderr
        return done.stdout
