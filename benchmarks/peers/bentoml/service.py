"""The service that BentoML loads."""

import os
from typing import Annotated

import bentoml
import numpy as np
import onnxruntime
from bentoml.validators import DType


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Onnx:
    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])

    @bentoml.api(batchable=os.environ["KIND"] == "batch", max_batch_size=32)
    def predict(self, x: Annotated[np.ndarray, DType("float32")]) -> np.ndarray:
        return self.session.run(["y"], {"x": x})[0]
