"""Ray Serve: `serve.py MODEL PORT {one,batch}`."""

import os
import signal
import sys
from pathlib import Path

# Its documented switch for throughput; read when it is imported.
os.environ["RAY_SERVE_THROUGHPUT_OPTIMIZED"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_raylet_start_wait_time_s"] = "100"
# Started below `uv run`, it would give its workers that environment instead of this one.
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"

import numpy as np
import onnxruntime
import ray
from ray import serve
from starlette.requests import Request

path, port, kind = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]


class Onnx:
    def __init__(self, model: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(self, x: np.ndarray) -> np.ndarray:
        return self.session.run(["y"], {"x": x})[0]

    async def __call__(self, request: Request) -> dict:
        return {"y": self.run(np.array((await request.json())["x"], np.float32)).tolist()}


class Batching(Onnx):
    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.001)
    async def rows(self, xs: list[np.ndarray]) -> list[list[float]]:
        return self.run(np.concatenate(xs)).tolist()

    async def __call__(self, request: Request) -> dict:
        return {"y": [await self.rows(np.array((await request.json())["x"], np.float32))]}


deployed = serve.deployment(num_replicas=1, max_ongoing_requests=100, ray_actor_options={"num_cpus": 0})
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=200 * 2**20)
serve.start(http_options={"host": "127.0.0.1", "port": port})
served = deployed(Batching if kind == "batch" else Onnx).bind(str(path))
serve.run(served, logging_config={"enable_access_log": False})
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
signal.pause()
