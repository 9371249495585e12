"""Small ONNX models for tests."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

Shape = Sequence[int | str | None]

FLOAT = TensorProto.FLOAT
INT64 = TensorProto.INT64

TYPES: Mapping[str, int] = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}

OTHER_TYPES: Mapping[str, int] = {"FP16": TensorProto.FLOAT16}


def value(name: str, kind: int, shape: Shape | None) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], weights: Sequence[Any] = ()) -> bytes:
    graph = helper.make_graph(nodes, "test", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 3)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(made)
    content: bytes = made.SerializeToString()
    return content


def identity(kind: int = FLOAT, shape: Shape = ("N", 3)) -> bytes:
    return unary("Identity", kind, shape)


def unary(operator: str, kind: int = FLOAT, shape: Shape = ("N", 3)) -> bytes:
    return model([helper.make_node(operator, ["x"], ["y"])], [value("x", kind, shape)], [value("y", kind, shape)])


def of_any_shape() -> bytes:
    """Gives back floats of whatever shape: it declares none, which onnxruntime takes and onnx's checker does not."""
    ends = [value(name, FLOAT, None) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "test", ends[:1], ends[1:])
    content: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10
    ).SerializeToString()
    return content


def every_datatype(*others: str) -> bytes:
    """One input `in-T` and one output `out-T` of the same values for every datatype T with a JSON form, and others."""
    types = {**TYPES, **{name: OTHER_TYPES[name] for name in others}}
    return model(
        [helper.make_node("Identity", [f"in-{name}"], [f"out-{name}"]) for name in types],
        [value(f"in-{name}", kind, ["N"]) for name, kind in types.items()],
        [value(f"out-{name}", kind, ["N"]) for name, kind in types.items()],
    )


def addition() -> bytes:
    """`sum` is a + b, `difference` is a - b."""
    inputs = [value("a", FLOAT, ["N"]), value("b", FLOAT, ["N"])]
    outputs = [value("sum", FLOAT, ["N"]), value("difference", FLOAT, ["N"])]
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])]
    return model(nodes, inputs, outputs)


def sequence() -> bytes:
    """Answers with a sequence, as exports with ZipMap do."""
    output = helper.make_tensor_sequence_value_info("y", FLOAT, None)
    return model([helper.make_node("SequenceConstruct", ["x"], ["y"])], [value("x", FLOAT, ["N"])], [output])


def convolution() -> bytes:
    """Takes images of any size from 5 by 5."""
    weight = helper.make_tensor("w", FLOAT, [1, 3, 5, 5], np.ones(75, dtype=np.float32))
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    return model([node], [value("x", FLOAT, ["N", 3, "H", "W"])], [value("y", FLOAT, ["N", 1, "h", "w"])], [weight])


def slow(base: int) -> bytes:
    """Multiplies 64 by 64 matrices `base` + `n` times (some 10 µs each); `y` is `n` + `base`."""
    weight = helper.make_tensor("w", FLOAT, [64, 64], np.full(64 * 64, 1 / 64, dtype=np.float32))
    ones = helper.make_tensor("base", INT64, [], [base])
    state = value("m", FLOAT, [64, 64])
    body = helper.make_graph(
        [helper.make_node("MatMul", ["m", "w"], ["next"]), helper.make_node("Identity", ["going"], ["go"])],
        "body",
        [value("i", INT64, []), value("going", TensorProto.BOOL, []), state],
        [value("go", TensorProto.BOOL, []), value("next", FLOAT, [64, 64])],
    )
    nodes = [
        helper.make_node("Add", ["n", "base"], ["y"]),
        helper.make_node("ReduceMax", ["y"], ["times"], keepdims=0),
        helper.make_node("Loop", ["times", "", "w"], ["z"], body=body),
    ]
    return model(nodes, [value("n", INT64, [1])], [value("y", INT64, [1]), value("z", FLOAT, [64, 64])], [weight, ones])


def reshape_to(size: int) -> bytes:
    """Takes any number of floats by its signature, `size` of them in truth."""
    shape = helper.make_tensor("s", INT64, [1], [size])
    node = helper.make_node("Reshape", ["x", "s"], ["y"])
    return model([node], [value("x", FLOAT, ["N"])], [value("y", FLOAT, [size])], [shape])


def enlarging(shape: Sequence[int]) -> bytes:
    """Repeats the number `x` until it fills a shape."""
    filled = helper.make_tensor("shape", INT64, [len(shape)], shape)
    return model(
        [helper.make_node("Expand", ["x", "shape"], ["y"])],
        [value("x", FLOAT, [1])],
        [value("y", FLOAT, shape)],
        [filled],
    )


def lookup(rows: int = 8) -> bytes:
    """Gives row `x` of a table for each index `x`; fails on an index that is not in the table."""
    table = helper.make_tensor("t", FLOAT, [rows, 2], np.arange(rows * 2, dtype=np.float32))
    node = helper.make_node("Gather", ["t", "x"], ["y"])
    return model([node], [value("x", INT64, ["N"])], [value("y", FLOAT, ["N", 2])], [table])


def centred() -> bytes:
    """Subtracts the mean of all rows, so that each row's answer depends on the others."""
    axes = helper.make_tensor("axes", INT64, [1], [0])
    nodes = [helper.make_node("ReduceMean", ["x", "axes"], ["m"]), helper.make_node("Sub", ["x", "m"], ["y"])]
    return model(nodes, [value("x", FLOAT, ["N", 3])], [value("y", FLOAT, ["N", 3])], [axes])


def summed() -> bytes:
    """Declares any number of rows as its output and gives one: the sum of all."""
    axes = helper.make_tensor("axes", INT64, [1], [0])
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"])
    return model([node], [value("x", FLOAT, ["N", 3])], [value("y", FLOAT, ["M", 3])], [axes])
