"""A model whose every run gives other bytes, so that equal answers are of one run, and calls of it with a key."""

import itertools
import uuid
from typing import Any, Final

import httpx
import onnx
from onnx import TensorProto, helper

from contract.serving.process import row
from unit.serving import models

NAME: Final = "dice"
PATH: Final = f"/v2/models/{NAME}/infer"
KEY: Final = "Idempotency-Key"
REPLAYED: Final = "idempotent-replayed"
ATTEMPT: Final = "idempotency-attempt"

BASE: Final = 400
"""Work of each run: so much that the server runs none on its event loop, which would answer nothing else meanwhile."""

_seeds = itertools.count(1)


def dice() -> bytes:
    """As `models.slow`, and throws two dice of 2^53 sides; each file throws others."""
    made = onnx.load_from_string(models.slow(BASE))
    seed = float(next(_seeds))
    made.graph.node.append(
        helper.make_node("RandomUniform", [], ["dice"], shape=[2], dtype=TensorProto.DOUBLE, seed=seed)
    )
    made.graph.output.append(models.value("dice", TensorProto.DOUBLE, [2]))
    content: bytes = made.SerializeToString()
    return content


def body(work: int = 0) -> dict[str, Any]:
    """Return a request that takes some 10 µs for each of `work`."""
    return {**row("n", "INT64", [work]), "outputs": [{"name": "y"}, {"name": "dice"}]}


def new_key() -> str:
    """Return a key that nobody has used."""
    return uuid.uuid4().hex


def ask(caller: httpx.Client, key: str, work: int = 0, /, **headers: str) -> httpx.Response:
    """Send a request with a key."""
    return caller.post(PATH, json=body(work), headers={KEY: f'"{key}"', **headers})


def is_replay(answer: httpx.Response) -> bool:
    """Tell whether an answer says that it was given before."""
    return bool(answer.headers.get(REPLAYED) == "true")
