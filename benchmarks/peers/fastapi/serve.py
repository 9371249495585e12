"""FastAPI as people write it for a model: pydantic lists in, lists out. `serve.py MODEL PORT {def,async}`."""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI
from pydantic import create_model

path, port, kind = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

nested: type = float
for _ in session.get_inputs()[0].shape:
    nested = list[nested]  # type: ignore[valid-type]
Features = create_model("Features", x=(nested, ...))
Prediction = create_model("Prediction", y=(list[list[float]], ...))

app = FastAPI()


def run(features: Features) -> dict:
    return {"y": session.run(["y"], {"x": np.array(features.x, np.float32)})[0].tolist()}


if kind == "def":

    @app.post("/predict", response_model=Prediction)
    def predict(features: Features):
        return run(features)

else:

    @app.post("/predict", response_model=Prediction)
    async def predict(features: Features):
        return run(features)


uvicorn.run(app, host="127.0.0.1", port=port, access_log=False)
