"""BentoML: `serve.py MODEL PORT {one,batch}`."""

import os
import sys
from pathlib import Path

os.environ |= {"MODEL": sys.argv[1], "KIND": sys.argv[3]}
os.environ["BENTOML_DO_NOT_TRACK"] = "true"
program = str(Path(sys.executable).with_name("bentoml"))
where = ["--host", "127.0.0.1", "--port", sys.argv[2], "--working-dir", str(Path(__file__).parent)]
os.execv(program, [program, "serve", "service:Onnx", *where])
