"""KServe's inference clients, unchanged, on the real server."""

import json
import platform
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime

from contract.serving.conftest import EXAMPLE, Serve

CLIENTS = Path(__file__).with_name("clients")


def test_kserves_clients_get_onnxruntimes_answers(serve: Serve) -> None:
    server = serve(EXAMPLE / "model.onnx", "--name", "risk", "--grpc-port", "0").ready()
    rows = np.random.default_rng(2).lognormal(size=(3, 30)).astype(np.float32)
    # The package pins other versions of what we use, so it has an environment of its own.
    environment = ["--isolated", "--no-project", "--python", platform.python_version()]
    script = [str(CLIENTS / "kserve_client.py"), server.url(), server.grpc_target(), "risk", json.dumps(rows.tolist())]
    command = ["uv", "run", *environment, "--with-requirements", str(CLIENTS / "kserve.txt"), "python", *script]
    seen = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)

    session = onnxruntime.InferenceSession(EXAMPLE / "model.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    outputs = {
        name: [list(array.shape), str(array.dtype), array.tobytes().hex()]
        for name, array in zip(names, session.run(names, {"X": rows}), strict=True)
    }
    for call, answer in seen["answers"].items():
        form = call.split()[1]
        assert answer == {"id": form, "model": "risk", "outputs": outputs}, call
    assert len(seen["answers"]) == 4
    assert seen["ready"] == [True] * 6
