"""LitServe: `serve.py MODEL PORT {one,batch}`."""

import sys
from pathlib import Path

import litserve
import numpy as np
import onnxruntime

path, port, kind = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
BATCHING = {"max_batch_size": 32, "batch_timeout": 0.001}


class Api(litserve.LitAPI):
    def setup(self, device):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def decode_request(self, request):
        return np.array(request["x"], np.float32)

    def predict(self, x):
        return self.session.run(["y"], {"x": x})[0]

    def encode_response(self, output):
        return {"y": output.tolist()}


class Batching(Api):
    def batch(self, inputs):
        return np.concatenate(inputs)

    def unbatch(self, output):
        return output[:, np.newaxis]


if __name__ == "__main__":
    api = Batching(**BATCHING) if kind == "batch" else Api()
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=1, fast_queue=True)
    server.run(host="127.0.0.1", port=port, num_api_servers=1, generate_client_file=False, log_level="warning")
