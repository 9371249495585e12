"""Ray Serve: `serve.py MODEL PORT`."""

import os
import signal
import sys
from pathlib import Path

# Its documented switch for throughput; read when it is imported.
os.environ["RAY_SERVE_THROUGHPUT_OPTIMIZED"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_raylet_start_wait_time_s"] = "100"

import numpy as np
import onnxruntime
import ray
from ray import serve
from starlette.requests import Request

path, port = Path(sys.argv[1]), int(sys.argv[2])


@serve.deployment(num_replicas=1, max_ongoing_requests=100, ray_actor_options={"num_cpus": 0})
class Onnx:
    def __init__(self, model: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    async def __call__(self, request: Request) -> dict:
        x = np.array((await request.json())["x"], np.float32)
        return {"y": self.session.run(["y"], {"x": x})[0].tolist()}


ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=200 * 2**20)
serve.start(http_options={"host": "127.0.0.1", "port": port})
serve.run(Onnx.bind(str(path)), logging_config={"enable_access_log": False})
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
signal.pause()
