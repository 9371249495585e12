"""How a server starts, and how it ends when it cannot."""

import re
import socket
import subprocess
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest

from contract.serving.conftest import EXAMPLE, Serve
from contract.serving.origin import Origin
from contract.serving.process import COMMAND, Server
from onceserve_contract import environment
from unit.serving import models


def failed(server: Server, code: int) -> dict[str, str]:
    assert server.wait() == code, server.log()
    return server.termination()


def took(server: Server) -> float:
    """Seconds from listening to the end."""
    first, last = (datetime.fromisoformat(server.records()[index]["time"]) for index in (0, -1))
    return (last - first).total_seconds()


def test_a_model_that_cannot_be_had_or_loaded_says_why(serve: Serve, origin: Origin, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = f"http://127.0.0.1:{listener.getsockname()[1]}/m.onnx"
    servers = {
        "NotFound": (serve(tmp_path / "none.onnx"), "there is no file"),
        "NotFound ": (serve(f"{origin.url}/missing"), "answers 404 Not Found"),
        "AccessDenied": (serve(f"{origin.url}/forbidden"), "answers 403 Forbidden"),
        "Unreachable": (serve(nobody), "Connection refused"),
        "DigestMismatch": (serve(f"{origin.url}/model.onnx", "--sha256", "AB" * 32), "ab" * 32),
        "LoadFailed": (serve(b"garbage"), "cannot load the model"),
        "LoadFailed ": (serve(models.sequence()), "zipmap"),
    }
    for reason, (server, words) in servers.items():
        message = failed(server, 3)
        assert message["reason"] == reason.strip()
        assert words in message["message"]
        assert message["message"] in server.records()[-2]["message"]
        assert took(server) < 10


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--port", "http"], "--port (or ONCESERVE_PORT): Input should be a valid integer"),
        (["--drain-delay", "5s"], "--drain-delay (or ONCESERVE_DRAIN_DELAY): Input should be a valid number"),
        (
            ["--host", "127.0.0.1", "--port", "{taken}"],
            "listen on 127.0.0.1 port {taken}: Address already in use",
        ),
    ],
)
def test_bad_settings_are_one_clear_line(serve: Serve, options: list[str], words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = str(listener.getsockname()[1])
        server = serve(EXAMPLE / "model.onnx", *(option.format(taken=taken) for option in options))
        message = failed(server, 2)
    assert message["reason"] == "InvalidSettings"
    assert words.format(taken=taken) in message["message"]
    assert server.log() == f"onceserve: {message['message']}\n"


def test_pods_are_configured_by_environment_alone(tmp_path: Path, origin: Origin) -> None:
    variables = {
        environment.MODEL_URI: f"{origin.url}/model.onnx",
        environment.MODEL_NAME: "risk",
        environment.MODEL_VERSION: "risk-5d4f",
        environment.POD_NAME: "risk-0",
        environment.THREADS: "2",
    }
    server = Server(tmp_path, **variables)
    try:
        answer = httpx.get(server.ready().url() + "/v2/models/risk", trust_env=False)
    finally:
        server.stop()
    assert answer.json()["versions"] == ["risk-5d4f"]
    assert answer.headers["onceserve-pod"] == "risk-0"


def test_secrets_of_the_models_url_are_not_logged(serve: Serve, origin: Origin) -> None:
    url = origin.url.replace("//", "//ann:secret@")
    server = serve(f"{url}/private?signature=hidden", "--log-level", "debug").ready()
    server.signal()
    assert server.wait() == 0
    assert "secret" not in server.log()
    assert "hidden" not in server.log()


def test_while_the_model_loads_the_port_is_open_and_the_server_alive_and_not_ready(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = serve(f"http://127.0.0.1:{silent.getsockname()[1]}/m.onnx")
        with httpx.Client(base_url=server.url(), trust_env=False) as client:
            assert client.get("/v2/health/live").status_code == 200
            for answer in (client.get("/v2/health/ready"), client.post("/v2/models/m/infer", json={})):
                assert answer.status_code == 503
                assert "the model is loading" in answer.json()["error"]
                assert answer.headers["retry-after"] == "1"
            assert client.get("/").status_code == 200
        server.signal()
        assert server.wait(2) == 0


def test_the_server_writes_nothing_and_needs_no_home(serve: Serve, tmp_path: Path) -> None:
    server = serve(EXAMPLE / "model.onnx", TMPDIR=str(tmp_path), PYTHONDONTWRITEBYTECODE="1").ready()
    httpx.get(server.url() + "/docs", trust_env=False)
    opened = {descriptor.resolve() for descriptor in Path(f"/proc/{server.process.pid}/fd").iterdir()}
    assert {path for path in opened if path.is_file()} == {server.home / "log"}
    server.signal()
    assert server.wait() == 0
    assert list(tmp_path.iterdir()) == []
    assert {path.name for path in server.home.rglob("*")} == {"empty", "log"}
    assert "telemetry" not in server.log().lower()
    assert [one["level"] for one in server.records()] == ["info"] * 5


def test_the_command_line_helps() -> None:
    def run(*arguments: str) -> str:
        return subprocess.run([COMMAND, *arguments], check=True, capture_output=True, text=True).stdout

    assert run("--version") == f"onceserve {version('onceserve')}\n"
    assert re.search(r"serve +serve a model", run("--help"))
    assert "ONCESERVE_MODEL_URI" in run("serve", "--help")
