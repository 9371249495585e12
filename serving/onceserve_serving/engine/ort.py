"""Models in ONNX Runtime: the only module that imports it."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# Read when the library is loaded: no usage data leaves the server, and no device identifier is written to its disk.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from onceserve_contract.termination import FailureReason
from onceserve_serving.engine import signature as signatures
from onceserve_serving.errors import ExecutionFailedError, InvalidRequestError, ModelUnavailableError
from onceserve_serving.tensors import Array, Signature, TensorSpec

# Its own lines are no JSON; what fails is raised, and told once in our words.
FATAL_ONLY = 4
SUFFIX = "ExecutionProvider"


class OrtEngine:
    """An ONNX model in an onnxruntime session."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._signature = signatures.read(_declared(session.get_inputs()), _declared(session.get_outputs()))
        self._texts_in = _texts(self._signature.inputs)
        self._texts_out = _texts(self._signature.outputs)

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""
        return self._signature

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Return the named outputs; raises InvalidRequestError or ExecutionFailedError in onnxruntime's words."""
        if self._texts_in:
            inputs = {
                name: _decoded(name, array) if name in self._texts_in else array for name, array in inputs.items()
            }
        try:
            arrays: list[Array] = self._session.run(outputs, inputs)
        except InvalidArgument as error:
            raise InvalidRequestError(f"the model refuses these inputs: {_words(error)}") from error
        except Exception as error:
            raise ExecutionFailedError(f"the model failed on these inputs: {_words(error)}") from error
        if self._texts_out:
            arrays = [
                _encoded(array) if name in self._texts_out else array
                for name, array in zip(outputs, arrays, strict=True)
            ]
        return arrays


def load(model: bytes, threads: int, providers: str = "CPU") -> OrtEngine:
    """Load a model from its bytes; raises ModelUnavailableError if onnxruntime refuses it.

    `providers` are execution providers in the order of preference, with commas between; the CPU always comes last.
    """
    onnxruntime.set_default_logger_severity(FATAL_ONLY)
    chosen = _providers(providers)
    try:
        session = onnxruntime.InferenceSession(model, _options(threads), providers=chosen)
    except Exception as error:
        message = f"onnxruntime {onnxruntime.__version__} cannot load the model: {_words(error)}"
        raise ModelUnavailableError(FailureReason.LOAD_FAILED, message) from error
    return OrtEngine(session)


def _providers(names: str) -> list[str]:
    available = {one.removesuffix(SUFFIX).lower(): one for one in onnxruntime.get_available_providers()}
    wanted = [name.lower() for name in names.split(",")]
    if missing := [name for name in names.split(",") if name.lower() not in available]:
        has = ", ".join(one.removesuffix(SUFFIX) for one in available.values())
        message = f"this onnxruntime has no provider {', '.join(missing)} (providers); it has {has}"
        raise ModelUnavailableError(FailureReason.LOAD_FAILED, message)
    return [available[name] for name in dict.fromkeys([*wanted, "cpu"])]


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL_ONLY
    return options


def _declared(nodes: Sequence[Any]) -> list[signatures.Declared]:
    return [signatures.Declared(node.name, node.type, node.shape) for node in nodes]


def _words(error: Exception) -> str:
    """Return what onnxruntime says without its prefix of `[ONNXRuntimeError] : code : NAME : `."""
    return str(error).split(" : ", 3)[-1].strip()


def _texts(specs: Mapping[str, TensorSpec]) -> frozenset[str]:
    return frozenset(name for name, spec in specs.items() if spec.datatype == "BYTES")


def _decoded(name: str, array: Array) -> Array:
    # onnxruntime would take bytes for the text "b'…'".
    try:
        return _each(array, bytes.decode)
    except UnicodeDecodeError:
        raise InvalidRequestError(f"input {name!r} holds bytes that are no UTF-8 text, which is all ONNX has") from None


def _encoded(array: Array) -> Array:
    return _each(array, str.encode)


def _each(array: Array, convert: Callable[[Any], Any]) -> Array:
    converted = np.empty(array.size, dtype=np.object_)
    converted[:] = [convert(element) for element in array.ravel()]
    return converted.reshape(array.shape)
