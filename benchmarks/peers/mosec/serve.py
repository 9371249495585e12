"""Mosec: `serve.py MODEL PORT {one,batch}`."""

import os
import sys

import numpy as np
import onnxruntime
from mosec import Server, Worker

BATCH = 32

# Mosec reads the command line itself and starts this file again for each worker: ours goes into the environment.
if "MODEL" not in os.environ:
    os.environ |= {"MODEL": sys.argv[1], "KIND": sys.argv[3]}
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", sys.argv[2], "--timeout", "30000", "--log-level", "warning"]
path, kind = os.environ["MODEL"], os.environ["KIND"]


class Inference(Worker):
    def __init__(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def rows(self, value):
        return self.session.run(["y"], {"x": value})[0]

    def forward(self, data):
        if kind == "one":
            return {"y": self.rows(np.array(data["x"], np.float32)).tolist()}
        outputs = self.rows(np.array([one["x"][0] for one in data], np.float32))
        return [{"y": [row]} for row in outputs.tolist()]


if __name__ == "__main__":
    server = Server()
    if kind == "one":
        server.append_worker(Inference, num=1)
    else:
        server.append_worker(Inference, num=1, max_batch_size=BATCH, max_wait_time=1)
    server.run()
