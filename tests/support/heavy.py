"""A model that takes the processor time it is asked to, so that few calls are a load."""

import time
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

_SIZE = 128
_TRIED = 100


def model(seconds: float) -> bytes:
    """Return a model that takes the example's input and so much processor time for each run on this machine."""
    return _products(max(1, round(_TRIED * seconds / _cost(_products(_TRIED)))))


def _products(number: int) -> bytes:
    """Return a model that multiplies a matrix of equal numbers by itself so often, which leaves it as it is."""
    weights: dict[str, Any] = {
        "axes": np.array([0, 1], np.int64),
        "nothing": np.zeros((), np.float32),
        "share": np.array(1 / _SIZE, np.float32),
        "square": np.array([_SIZE, _SIZE], np.int64),
    }
    squares = [f"square{each}" for each in range(number + 1)]
    nodes = [
        # By way of the input, so that nothing is known before it is.
        helper.make_node("ReduceMean", ["X", "axes"], ["mean"]),
        helper.make_node("Mul", ["mean", "nothing"], ["zero"]),
        helper.make_node("Add", ["zero", "share"], ["each"]),
        helper.make_node("Expand", ["each", "square"], squares[:1]),
        *(helper.make_node("MatMul", [one, one], [other]) for one, other in pairwise(squares)),
        helper.make_node("ReduceMean", [squares[-1], "axes"], ["Y"]),
    ]
    ends: dict[str, list[Any]] = {"X": ["N", 30], "Y": [1, 1]}
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ends.items())
    kept = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    made = helper.make_model(
        helper.make_graph(nodes, "heavy", [x], [y], kept), opset_imports=[helper.make_opsetid("", 21)], ir_version=10
    )
    onnx.checker.check_model(made)
    content: bytes = made.SerializeToString()
    return content


def _cost(content: bytes) -> float:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    costs = []
    for _ in range(10):
        begun = time.process_time()
        session.run(["Y"], {"X": np.zeros((1, 30), np.float32)})
        costs.append(time.process_time() - begun)
    return min(costs)
