"""What a server has imported and set up when nobody has asked it for more than its models.

Each of these modules costs every pod's start and memory; what needs one imports it when it is needed.
"""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from contract.serving.conftest import EXAMPLE
from contract.serving.process import Server

TELL: Final = """\
import atexit, gc, json, sys
from pathlib import Path

def tell():
    facts = {"modules": sorted(sys.modules), "collecting": gc.isenabled()}
    Path(__file__).with_name("facts").write_text(json.dumps(facts))

atexit.register(tell)
"""

SPARED: Final = (
    "asyncpg",
    "fastapi",
    "grpc_reflection.v1alpha",
    "httpx",
    "numpy.random",
    "onceserve_serving.app",
    "onceserve_serving.model_download",
    "opentelemetry",
    "redis",
    "requests",
    "starlette.applications",
)


def facts_of(home: Path, *options: str) -> dict[str, Any]:
    """Serve until ready, stop, and return what the process told at its end."""
    (home / "sitecustomize.py").write_text(TELL, encoding="utf-8")
    server = Server(home, str(EXAMPLE / "model.onnx"), *options, PYTHONPATH=str(home))
    try:
        server.ready().signal()
        assert server.wait() == 0, server.log()
    finally:
        server.stop()
    facts: dict[str, Any] = json.loads((home / "facts").read_text(encoding="utf-8"))
    return facts


def within(modules: list[str], packages: tuple[str, ...]) -> set[str]:
    return {one for one in modules if any(one == package or one.startswith(f"{package}.") for package in packages)}


@pytest.mark.parametrize(
    ("grpc_port", "served", "spared"),
    [("0", {"onnxruntime", "uvicorn", "grpc"}, SPARED), ("off", {"onnxruntime"}, (*SPARED, "grpc", "google.protobuf"))],
)
def test_a_start_imports_nothing_that_it_does_not_use(
    tmp_path: Path, grpc_port: str, served: set[str], spared: tuple[str, ...]
) -> None:
    modules = facts_of(tmp_path, "--grpc-port", grpc_port)["modules"]
    assert served <= set(modules)
    assert within(modules, spared) == set()


def test_garbage_is_collected_again_after_the_imports(tmp_path: Path) -> None:
    assert facts_of(tmp_path)["collecting"] is True
