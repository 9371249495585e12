"""The server that these tests start, and that its image has: the modules of the hot path are compiled."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from contract.serving.conftest import Serve
from images import compiled, sources
from unit.serving import models

CODE = "/onceserve__mypyc."


def python(script: str, *, path: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": str(path)}, capture_output=True, text=True, check=False
    )


def test_the_servers_under_test_run_compiled(serve: Serve) -> None:
    server = serve(models.slow(0)).ready()
    assert CODE in Path(f"/proc/{server.process.pid}/maps").read_text()


@pytest.mark.parametrize("module", sources.compiled_modules())
def test_each_module_is_loaded_compiled(module: str) -> None:
    name = module.removesuffix(".py").replace("/", ".")
    result = python(f"import {name} as module; print(module.__file__)", path=compiled.build())
    assert result.stdout.endswith(".so\n"), result.stderr
    # Who reads the code of what runs finds it.
    assert (compiled.build() / module).read_bytes() == (sources.ROOT / "serving" / module).read_bytes()


def test_a_traceback_tells_the_lines_of_the_sources() -> None:
    result = python("from onceserve_serving.codec import rest; rest._document(b'{')", path=compiled.build())
    told = re.findall(r'File "onceserve_serving/codec/rest.py", line (\d+), in _document', result.stderr)
    lines = (sources.ROOT / "serving/onceserve_serving/codec/rest.py").read_text().splitlines()
    shown = [lines[int(number) - 1].strip() for number in told]
    assert len(shown) == 2, result.stderr
    assert "orjson.loads" in shown[0]
    assert shown[1].startswith("raise InvalidRequestError")
