"""Requests that a model is known to take: those that it was warmed up with."""

import shlex
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from onceserve_serving.codec import binary, json
from onceserve_serving.engine.runner import Runner
from onceserve_serving.tensors import Array, Signature, TensorSpec

MOST_ELEMENTS: Final = 1_000
"""Elements above which an example is no longer something to read or to paste into a terminal."""

KEY: Final = ' -H "X-API-Key: $KEY"'


class Example(NamedTuple):
    """A request: its JSON, and the zeros that follow it as binary tensors (0: all is JSON)."""

    document: dict[str, Any]
    zeros: int


def of(runner: Runner) -> Example:
    """Return a request that the model takes, in JSON if that has a form for it that can be read."""
    inputs, signature = runner.warm.inputs, runner.signature
    if _readable(inputs, signature):
        tensors = [_tensor(spec, inputs[name]) for name, spec in signature.inputs.items()]
        return Example({"inputs": tensors, **_answer(signature)}, 0)
    sizes = {name: len(binary.dump(inputs[name], spec)) for name, spec in signature.inputs.items()}
    tensors = [_binary_tensor(spec, inputs[name], sizes[name]) for name, spec in signature.inputs.items()]
    return Example({"inputs": tensors, **_answer(signature)}, sum(sizes.values()))


def command(runner: Runner, url: str, *, keys: bool = False) -> str:
    """Return a command line that asks the model at this URL, and works as it is where KEY is one that it takes."""
    document, zeros = of(runner)
    body = orjson.dumps(document).decode()
    # A terminal is no place for tensors.
    options = (" -o answer.bin" if "parameters" in document else "") + (KEY if keys else "")
    if not zeros:
        return f"curl {url}/infer{options} -H 'Content-Type: application/json' -d {shlex.quote(body)}"
    return (
        f"(printf %s {shlex.quote(body)}; head -c {zeros} /dev/zero) | "
        f"curl {url}/infer{options} -H 'Content-Type: application/octet-stream' "
        f"-H 'Inference-Header-Content-Length: {len(body.encode())}' --data-binary @-"
    )


def _readable(inputs: Mapping[str, Array], signature: Signature) -> bool:
    few = sum(array.size for array in inputs.values()) <= MOST_ELEMENTS
    return few and all(spec.datatype in json.ELEMENTS for spec in signature.inputs.values())


def _tensor(spec: TensorSpec, array: Array) -> dict[str, Any]:
    return {**_shape(spec, array), "data": orjson.loads(orjson.dumps(json.elements(array, spec)))}


def _binary_tensor(spec: TensorSpec, array: Array, size: int) -> dict[str, Any]:
    return {**_shape(spec, array), "parameters": {"binary_data_size": size}}


def _shape(spec: TensorSpec, array: Array) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(array.shape)}


def _answer(signature: Signature) -> dict[str, Any]:
    texts = [name for name, spec in signature.outputs.items() if spec.datatype in json.ELEMENTS]
    if len(texts) == len(signature.outputs):
        return {}
    return {"outputs": [{"name": name} for name in texts]} if texts else {"parameters": {"binary_data_output": True}}
