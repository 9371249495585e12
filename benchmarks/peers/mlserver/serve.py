"""MLServer with a custom runtime: `serve.py MODEL PORT {one,batch}`."""

import json
import os
import socket
import sys
import tempfile
from pathlib import Path

path, port, kind = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
BATCHING = {"max_batch_size": 32, "max_batch_time": 0.001}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


# Without its pool of workers: the pool does not start with today's uvloop, and one process is asked for.
server = {
    "host": "127.0.0.1",
    "http_port": port,
    "grpc_port": free_port(),
    "metrics_port": free_port(),
    "parallel_workers": 0,
    "debug": False,
}
model = {"name": path.stem, "implementation": "model.OnnxModel", "parameters": {"uri": str(path)}}
if kind == "batch":
    model |= BATCHING
folder = Path(tempfile.mkdtemp(dir=path.parent))
(folder / "settings.json").write_text(json.dumps(server))
(folder / "model-settings.json").write_text(json.dumps(model))
os.environ["PYTHONPATH"] = str(Path(__file__).parent)
program = str(Path(sys.executable).with_name("mlserver"))
os.execv(program, [program, "start", str(folder)])
