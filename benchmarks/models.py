"""The models that all servers serve: made here from a seed, never downloaded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array: TypeAlias = NDArray[np.float32]

INPUT: Final = "x"
OUTPUT: Final = "y"
TOLERANCE: Final = 1e-4
SEED: Final = 20


@dataclass(frozen=True)
class Model:
    """One model on disk, an input of one row for it, and onnxruntime's own answer to that input."""

    name: str
    path: Path
    value: Array
    expected: Array

    def agrees(self, answer: object) -> bool:
        """Tell whether an answer has onnxruntime's shape and, within the tolerance, its values."""
        given = np.asarray(answer, np.float32)
        return given.shape == self.expected.shape and np.allclose(given, self.expected, rtol=TOLERANCE, atol=TOLERANCE)


class Graph:
    """A chain of nodes with random weights."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._random = np.random.default_rng(SEED)
        self._last = INPUT

    def add(self, operator: str, *shapes: Sequence[int], **attributes: Any) -> "Graph":  # noqa: ANN401
        """Append a node that takes the one before it and weights of these shapes."""
        names = [self._weight(shape) for shape in shapes]
        made = f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, [self._last, *names], [made], **attributes))
        self._last = made
        return self

    def _weight(self, shape: Sequence[int]) -> str:
        name = f"w{len(self.weights)}"
        fan_in = max(1, int(np.prod(shape[1:])))
        values = self._random.normal(0, fan_in**-0.5, shape).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def bytes(self, shape: Sequence[int], out: Sequence[int]) -> bytes:
        """Return the model; the shapes are those of one row."""
        self.nodes[-1].output[0] = OUTPUT
        tensors = [_described(INPUT, shape)], [_described(OUTPUT, out)]
        graph = helper.make_graph(self.nodes, "benchmark", *tensors, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        content: bytes = model.SerializeToString()
        return content


def _described(name: str, shape: Sequence[int]) -> Any:  # noqa: ANN401  onnx publishes no types
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", *shape])


def _risk() -> bytes:
    return Graph().add("Gemm", (30, 1), (1,)).add("Sigmoid").bytes([30], [1])


def _mlp() -> bytes:
    graph = Graph().add("Gemm", (784, 512), (512,)).add("Relu").add("Gemm", (512, 256), (256,)).add("Relu")
    return graph.add("Gemm", (256, 10), (10,)).add("Softmax").bytes([784], [10])


def _cnn() -> bytes:
    graph = Graph().add("Conv", (32, 3, 3, 3), (32,), pads=[1, 1, 1, 1]).add("Relu")
    graph.add("Conv", (48, 32, 3, 3), (48,), pads=[1, 1, 1, 1]).add("Relu")
    graph.add("Conv", (64, 48, 3, 3), (64,), pads=[1, 1, 1, 1]).add("Relu")
    graph.add("GlobalAveragePool").add("Flatten")
    return graph.add("Gemm", (64, 10), (10,)).bytes([3, 64, 64], [10])


def _image() -> bytes:
    return Graph().add("ReduceMean", axes=[2, 3], keepdims=0).bytes([3, 224, 224], [3])


SHAPES: Final[Mapping[str, tuple[int, ...]]] = {
    "risk": (30,),
    "mlp": (784,),
    "cnn": (3, 64, 64),
    "image": (3, 224, 224),
}

BUILDERS: Final[Mapping[str, Callable[[], bytes]]] = {"risk": _risk, "mlp": _mlp, "cnn": _cnn, "image": _image}


def make(names: Sequence[str], directory: Path) -> dict[str, Model]:
    """Write these models into a directory and ask onnxruntime for what they must answer."""
    return {name: _make(name, directory) for name in names}


def _make(name: str, directory: Path) -> Model:
    path = directory / f"{name}.onnx"
    path.write_bytes(BUILDERS[name]())
    value = np.random.default_rng(SEED).random((1, *SHAPES[name]), np.float32)
    expected = session(path).run([OUTPUT], {INPUT: value})[0]
    return Model(name, path, value, expected)


def session(path: Path) -> Any:  # noqa: ANN401  onnxruntime publishes no types
    """Return a session with one thread: how every server here runs its model."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
