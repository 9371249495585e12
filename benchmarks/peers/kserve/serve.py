"""KServe's model server with a custom model: `serve.py MODEL PORT`."""

import logging
import sys
from pathlib import Path

import kserve
import onnxruntime
from kserve import InferOutput, InferRequest, InferResponse

path, port = Path(sys.argv[1]), int(sys.argv[2])


class OnnxModel(kserve.Model):
    def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.ready = True
        return True

    async def predict(self, payload: InferRequest, headers=None, response_headers=None) -> InferResponse:
        y = self.session.run(["y"], {"x": payload.inputs[0].as_numpy()})[0]
        output = InferOutput(name="y", shape=list(y.shape), datatype="FP32")
        output.set_data_from_numpy(
            y, binary_data=bool(payload.parameters and payload.parameters.get("binary_data_output"))
        )
        return InferResponse(response_id=payload.id or "", model_name=self.name, infer_outputs=[output])


if __name__ == "__main__":
    model = OnnxModel(path.stem)
    model.load()
    server = kserve.ModelServer(http_port=port, enable_grpc=False, workers=1, enable_latency_logging=False)
    # No server here logs each request.
    logging.getLogger("kserve.trace").setLevel(logging.WARNING)
    server.start([model])
