"""Models in ONNX Runtime: the only module that imports it."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

# Read when the library is loaded: no usage data leaves the server, and no device identifier is written to its disk.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from onceserve_contract.termination import FailureReason
from onceserve_serving.engine import signature as signatures
from onceserve_serving.errors import ExecutionFailedError, InvalidRequestError, ModelUnavailableError
from onceserve_serving.tensors import Array, Signature

ERRORS_ONLY = 3


class OrtEngine:
    """An ONNX model in an onnxruntime session on the CPU."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._signature = signatures.read(_declared(session.get_inputs()), _declared(session.get_outputs()))

    @property
    def signature(self) -> Signature:
        """What the model takes and gives."""
        return self._signature

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Return the named outputs; raises InvalidRequestError or ExecutionFailedError in onnxruntime's words."""
        try:
            arrays: list[Array] = self._session.run(outputs, inputs)
        except InvalidArgument as error:
            raise InvalidRequestError(f"the model refuses these inputs: {_words(error)}") from error
        except Exception as error:
            raise ExecutionFailedError(f"the model failed on these inputs: {_words(error)}") from error
        return arrays


def load(model: bytes, threads: int) -> OrtEngine:
    """Load a model from its bytes; raises ModelUnavailableError if onnxruntime refuses it."""
    onnxruntime.set_default_logger_severity(ERRORS_ONLY)
    try:
        session = onnxruntime.InferenceSession(model, _options(threads), providers=["CPUExecutionProvider"])
    except Exception as error:
        message = f"onnxruntime {onnxruntime.__version__} cannot load the model: {_words(error)}"
        raise ModelUnavailableError(FailureReason.LOAD_FAILED, message) from error
    return OrtEngine(session)


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    return options


def _declared(nodes: Sequence[Any]) -> list[signatures.Declared]:
    return [signatures.Declared(node.name, node.type, node.shape) for node in nodes]


def _words(error: Exception) -> str:
    """Return what onnxruntime says without its prefix of `[ONNXRuntimeError] : code : NAME : `."""
    return str(error).split(" : ", 3)[-1].strip()
