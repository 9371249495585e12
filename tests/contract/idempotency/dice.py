"""A model whose every run gives other bytes, so that equal answers are of one run, and calls of it with a key."""

import itertools
import uuid
from typing import Any, Final

import httpx
import numpy as np
from onnx import TensorProto, helper

from contract.serving.process import row
from unit.serving import models

NAME: Final = "dice"
PATH: Final = f"/v2/models/{NAME}/infer"
KEY: Final = "Idempotency-Key"
REPLAYED: Final = "idempotent-replayed"
ATTEMPT: Final = "idempotency-attempt"

_seeds = itertools.count(1)


def dice() -> bytes:
    """Multiplies 64 by 64 matrices `n` times (some 10 µs each) and throws two dice of 2^53 sides; each file others."""
    weight = helper.make_tensor("w", models.FLOAT, [64, 64], np.full(64 * 64, 1 / 64, dtype=np.float32))
    state = models.value("m", models.FLOAT, [64, 64])
    body = helper.make_graph(
        [helper.make_node("MatMul", ["m", "w"], ["next"]), helper.make_node("Identity", ["going"], ["go"])],
        "body",
        [models.value("i", models.INT64, []), models.value("going", TensorProto.BOOL, []), state],
        [models.value("go", TensorProto.BOOL, []), models.value("next", models.FLOAT, [64, 64])],
    )
    seed = float(next(_seeds))
    nodes = [
        helper.make_node("ReduceMax", ["n"], ["times"], keepdims=0),
        helper.make_node("Loop", ["times", "", "w"], ["z"], body=body),
        helper.make_node("ReduceSum", ["z"], ["sum"]),
        helper.make_node("RandomUniform", [], ["y"], shape=[2], dtype=TensorProto.DOUBLE, seed=seed),
    ]
    outputs = [models.value("y", TensorProto.DOUBLE, [2]), models.value("sum", models.FLOAT, [1, 1])]
    return models.model(nodes, [models.value("n", models.INT64, [1])], outputs, [weight])


def body(work: int = 0) -> dict[str, Any]:
    """Return a request that takes some 10 µs for each of `work`."""
    return row("n", "INT64", [work])


def new_key() -> str:
    """Return a key that nobody has used."""
    return uuid.uuid4().hex


def ask(caller: httpx.Client, key: str, work: int = 0, **headers: str) -> httpx.Response:
    """Send a request with a key."""
    return caller.post(PATH, json=body(work), headers={KEY: f'"{key}"', **headers})


def is_replay(answer: httpx.Response) -> bool:
    """Tell whether an answer says that it was given before."""
    return answer.headers.get(REPLAYED) == "true"
