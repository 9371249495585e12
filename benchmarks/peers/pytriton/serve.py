"""PyTriton, which brings Triton's core: `serve.py MODEL PORT`."""

import os
import signal
import sys
import sysconfig
from pathlib import Path

import numpy as np
import onnxruntime
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

path, port = Path(sys.argv[1]), int(sys.argv[2])
BATCH = 32

# Its backend links libpython: without this it takes the system's, which need not be the release that runs here.
os.environ["LD_LIBRARY_PATH"] = sysconfig.get_config_var("LIBDIR")


options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@batch
def infer(x):
    return {"y": session.run(["y"], {"x": x})[0]}


def described(tensor) -> Tensor:
    return Tensor(name=tensor.name, dtype=np.float32, shape=tuple(tensor.shape[1:]))


# It cleans up as it leaves its block, and SIGTERM alone would not leave it.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
config = TritonConfig(http_address="127.0.0.1", http_port=port, allow_grpc=False, allow_metrics=False)
with Triton(config=config) as triton:
    triton.bind(
        model_name=path.stem,
        infer_func=infer,
        inputs=[described(one) for one in session.get_inputs()],
        outputs=[described(one) for one in session.get_outputs()],
        config=ModelConfig(max_batch_size=BATCH, batcher=DynamicBatcher()),
    )
    triton.serve()
