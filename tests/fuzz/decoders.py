"""Coverage-guided fuzzing of what reads bodies, for a bounded time: `make fuzz`.

Whatever comes is taken or refused in words; anything else is a finding, and atheris writes the input that shows it.
"""

import sys
from typing import Any

import atheris  # type: ignore[import-untyped]
import orjson

with atheris.instrument_imports(include=["onceserve_serving.codec"]):
    from onceserve_serving.codec import compression, rest

from onceserve_serving.errors import InvalidRequestError
from onceserve_serving.tensors import DTYPES, Signature, TensorSpec

LIMIT = 2**20
SPECS = {name: TensorSpec(name, name, (-1,) if index % 2 else ()) for index, name in enumerate(DTYPES)}
CODINGS = sorted(compression.DECODERS)


def one_input(data: bytes) -> None:
    """Read one body, made of the bytes or just them."""
    choice = atheris.FuzzedDataProvider(data)
    spec = choice.PickValueInList(list(SPECS.values()))
    signature = Signature({spec.name: spec}, {spec.name: spec})
    try:
        if choice.ConsumeBool():
            compression.decompress(choice.ConsumeBytes(sys.maxsize), choice.PickValueInList(CODINGS), LIMIT)
        else:
            header = orjson.dumps(_document(choice, spec))
            tail = choice.ConsumeBytes(sys.maxsize)
            rest.decode(header + tail, len(header) + choice.PickValueInList([0, 0, 0, -1, 1]), signature)
    except (InvalidRequestError, compression.TooLongError):
        pass


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
