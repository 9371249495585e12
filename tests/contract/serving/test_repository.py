"""Models that come and go in a running server."""

import html
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from onnx import TensorProto

from contract.serving.conftest import Serve
from contract.serving.process import client, row
from unit.serving import models

connected = contextmanager(client)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("repository")
    for name, content in {"a.onnx": models.identity(shape=["N"]), "b/3/model.onnx": models.addition()}.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(content)
    return home


@pytest.fixture(scope="module")
def server(module_serve: Serve, directory: Path) -> Iterator[httpx.Client]:
    yield from client(module_serve(models.identity(), "--name", "first", "--repository", str(directory)).ready())


@pytest.fixture
def asked(server: httpx.Client, directory: Path) -> httpx.Client:
    (directory / "a.onnx").write_bytes(models.identity(shape=["N"]))
    server.post("/v2/repository/models/a/load").raise_for_status()
    return server


def index(client: httpx.Client, **wanted: Any) -> dict[str, str]:
    return {one["name"]: one["state"] for one in client.post("/v2/repository/index", json=wanted).json()}


def test_all_models_are_served_and_listed(asked: httpx.Client) -> None:
    assert index(asked) == index(asked, ready=True) == {"first": "READY", "a": "READY", "b": "READY"}
    assert asked.get("/v2/models/b").json()["versions"] == ["3"]
    assert asked.post("/v2/models/a/infer", json=row("x", "FP32", [1.5])).json()["outputs"][0]["data"] == [1.5]
    assert sorted(re.findall("<h2>(.*?)</h2>", asked.get("/").text)) == ["a", "b", "first"]
    infer = [path for path in asked.get("/openapi.json").json()["paths"] if path.endswith("/infer")]
    assert sorted(infer) == [f"/v2/models/{name}/infer" for name in ("a", "b", "first")]


def test_models_are_unloaded_and_loaded(asked: httpx.Client, directory: Path) -> None:
    assert asked.post("/v2/repository/models/a/unload").status_code == 200
    assert asked.post("/v2/models/a/infer", json=row("x", "FP32", [1])).status_code == 503
    assert index(asked)["a"] == "UNLOADED"
    assert "a" not in index(asked, ready=True)

    (directory / "a.onnx").write_bytes(models.unary("Neg", shape=["N"]))
    assert asked.post("/v2/repository/models/a/load").status_code == 200
    assert asked.post("/v2/models/a/infer", json=row("x", "FP32", [1])).json()["outputs"][0]["data"] == [-1]


def test_a_model_that_cannot_be_loaded_is_told_and_the_old_one_stays(asked: httpx.Client, directory: Path) -> None:
    (directory / "a.onnx").write_bytes(b"no model")
    refused = asked.post("/v2/repository/models/a/load")
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:onceserve:problem:model-unavailable")
    assert asked.post("/v2/models/a/infer", json=row("x", "FP32", [1])).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("models/none/load", b"", 404),
        ("models/none/unload", b"", 404),
        ("models/a/load", b'{"parameters": {"config": "{}"}}', 400),
        ("models/a/load", b"[]", 400),
        ("models/a/unload", b"{", 400),
        ("index", b'"x"', 400),
        ("index", b" " * 2**17, 413),
    ],
)
def test_what_cannot_be_is_refused_in_words(asked: httpx.Client, path: str, body: bytes, status: int) -> None:
    refused = asked.post(f"/v2/repository/{path}", content=body)
    assert (refused.status_code, refused.headers["content-type"]) == (status, "application/problem+json")
    assert refused.json()["error"]


def test_model_control_may_be_allowed_without_a_repository(serve: Serve) -> None:
    server = serve(models.identity(), "--allow-model-control")
    with connected(server.ready()) as asked:
        assert asked.post("/v2/repository/models/m/load", json={}).status_code == 200
        assert index(asked) == {"m": "READY"}


@pytest.mark.parametrize(
    "content",
    [models.identity(TensorProto.FLOAT16), models.identity(shape=["N", 2_000]), models.every_datatype("FP16")],
    ids=["half", "long rows", "every datatype"],
)
def test_the_command_on_the_page_works_for_every_model(serve: Serve, content: bytes, tmp_path: Path) -> None:
    page = httpx.get(serve(content).ready().url(), trust_env=False).text
    [command] = re.findall("<pre>(.*?)</pre>", page, re.DOTALL)
    told = f"{html.unescape(command)} --noproxy '*' -sf -w '%{{http_code}}'"
    done = subprocess.run(["bash", "-c", told], capture_output=True, check=True, cwd=tmp_path)
    assert done.stdout.endswith(b"200")
