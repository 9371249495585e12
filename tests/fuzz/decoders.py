"""Coverage-guided fuzzing of what reads bodies, for a bounded time: `make fuzz`.

Whatever comes is taken or refused in words; anything else is a finding, and atheris writes the input that shows it.
"""

import contextlib
import sys
from typing import Any

import atheris  # type: ignore[import-untyped]
import orjson

with atheris.instrument_imports(include=["onceserve_serving.codec"]):
    from onceserve_serving.codec import compression, protobuf, rest

from onceserve_serving.errors import InvalidRequestError
from onceserve_serving.proto.open_inference_pb2 import InferTensorContents, ModelInferRequest
from onceserve_serving.tensors import DTYPES, Signature, TensorSpec

LIMIT = 2**20
SPECS = {name: TensorSpec(name, name, (-1,) if index % 2 else ()) for index, name in enumerate(DTYPES)}
CODINGS = sorted(compression.DECODERS)
FIELDS = sorted(set(protobuf.FIELDS.values()))


def one_input(data: bytes) -> None:
    """Read one body, made of the bytes or just them."""
    choice = atheris.FuzzedDataProvider(data)
    spec = choice.PickValueInList(list(SPECS.values()))
    read = choice.PickValueInList([_compressed, _rest, _protobuf])
    with contextlib.suppress(InvalidRequestError, compression.TooLongError):
        read(choice, spec, Signature({spec.name: spec}, {spec.name: spec}))


def _compressed(choice: Any, _: TensorSpec, __: Signature) -> None:
    compression.decompress(choice.ConsumeBytes(sys.maxsize), choice.PickValueInList(CODINGS), LIMIT)


def _rest(choice: Any, spec: TensorSpec, signature: Signature) -> None:
    header = orjson.dumps(_document(choice, spec))
    tail = choice.ConsumeBytes(sys.maxsize)
    rest.decode(header + tail, len(header) + choice.PickValueInList([0, 0, 0, -1, 1]), signature)


def _protobuf(choice: Any, spec: TensorSpec, signature: Signature) -> None:
    message = ModelInferRequest(outputs=[{"name": spec.name}] * choice.ConsumeIntInRange(0, 2))
    for _ in range(choice.PickValueInList([1, 0, 2])):
        shape = [choice.ConsumeIntInRange(-1, 4) for _ in range(choice.ConsumeIntInRange(0, 3))]
        tensor = message.inputs.add(name=spec.name, datatype=spec.datatype, shape=shape)
        for _ in range(choice.ConsumeIntInRange(0, 2)):
            _fill(choice, tensor.contents)
        if choice.ConsumeBool():
            message.raw_input_contents.append(choice.ConsumeBytes(choice.ConsumeIntInRange(0, 40)))
    protobuf.decode(protobuf.parse(message.SerializeToString() + choice.ConsumeBytes(sys.maxsize)), signature)


def _fill(choice: Any, contents: InferTensorContents) -> None:
    field = choice.PickValueInList(FIELDS)
    element = b"a" if field == "bytes_contents" else choice.PickValueInList([0, 1, 127, 255, 2**31 - 1])
    getattr(contents, field).extend([element] * choice.ConsumeIntInRange(0, 6))


def _document(choice: Any, spec: TensorSpec) -> dict[str, Any]:
    # orjson is opaque to the fuzzer: what it could not find out by itself is given to it.
    tensors = [_tensor(choice, spec) for _ in range(choice.PickValueInList([1, 0, 2]))]
    outputs = [{"name": spec.name, "parameters": _any(choice)} for _ in range(choice.ConsumeIntInRange(0, 2))]
    return {"id": _any(choice), "inputs": tensors, "outputs": outputs, "parameters": {"binary_data_output": True}}


def _tensor(choice: Any, spec: TensorSpec) -> dict[str, Any]:
    shape = [choice.ConsumeIntInRange(-1, 4) for _ in range(choice.ConsumeIntInRange(0, 3))]
    tensor = {"name": spec.name, "datatype": spec.datatype, "shape": shape if choice.ConsumeBool() else _any(choice)}
    if choice.ConsumeBool():
        return tensor | {"parameters": {"binary_data_size": choice.ConsumeIntInRange(-1, 40)}}
    return tensor | {"data": [_any(choice) for _ in range(choice.ConsumeIntInRange(0, 6))]}


def _any(choice: Any) -> Any:
    leaves: list[Any] = [
        None,
        True,
        0,
        1,
        -1,
        255,
        2**31,
        2**63,
        2**64 - 1,
        0.5,
        1e39,
        "",
        "a",
        [],
        {},
        [1],
        [[1, 2], [3]],
    ]
    return choice.PickValueInList([*leaves, {"binary_data": True}, {"binary_data": 1}])


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
