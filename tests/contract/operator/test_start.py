"""How the operator process ends when it cannot start: in words."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml

from devcluster.cluster import free_ports
from support.waiting import eventually

ROOT = Path(__file__).parents[3]
PATHS = f"{ROOT / 'operator'}:{ROOT / 'serving'}"


def start(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "onceserve_operator.main"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": PATHS, "ONCESERVE_OPERATOR_METRICS_PORT": "0", **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_wrong_setting_is_named_by_its_variable() -> None:
    ended = start(ONCESERVE_OPERATOR_RESYNC="0")
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        "ONCESERVE_OPERATOR_SERVER_IMAGE: Field required",
        "ONCESERVE_OPERATOR_VERIFICATION_SECRET_FILE: Field required",
        "ONCESERVE_OPERATOR_LEASE_NAMESPACE: Field required",
        "ONCESERVE_OPERATOR_RESYNC: Input should be greater than or equal to 1",
    ]


def settings(secret: Path) -> dict[str, str]:
    return {
        "ONCESERVE_OPERATOR_SERVER_IMAGE": "example/server:1",
        "ONCESERVE_OPERATOR_VERIFICATION_SECRET_FILE": str(secret),
        "ONCESERVE_OPERATOR_LEASE_NAMESPACE": "default",
    }


@pytest.mark.parametrize(
    ("content", "words"), [(None, "No such file or directory"), ("short\n", "has 5 bytes; at least 32 were expected")]
)
def test_a_secret_that_is_missing_or_short_is_named(tmp_path: Path, content: str | None, words: str) -> None:
    secret = tmp_path / "secret"
    if content is not None:
        secret.write_text(content)
    ended = start(KUBECONFIG=str(tmp_path / "none"), **settings(secret))
    assert ended.returncode == 2
    assert "ONCESERVE_OPERATOR_VERIFICATION_SECRET_FILE" in ended.stderr
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_without_a_cluster_it_says_so(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s" * 32)
    ended = start(KUBECONFIG=str(tmp_path / "none"), **settings(secret))
    assert ended.returncode == 2
    assert "neither in a cluster nor with a usable kubeconfig" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_what_nobody_thought_of_is_told_in_words_too(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s" * 32)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = start(**settings(secret) | {"ONCESERVE_OPERATOR_METRICS_PORT": port})
    last = json.loads(ended.stderr.splitlines()[-1])
    assert ended.returncode == 1
    assert last["message"].startswith("the process ends, since OSError: ")
    assert "Address already in use" in last["message"]


def test_an_api_server_that_hangs_keeps_it_alive_but_not_ready(tmp_path: Path) -> None:
    secret, port = tmp_path / "secret", free_ports(1)[0]
    secret.write_text("s" * 32)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = kubeconfig(tmp_path, silent.getsockname()[1])
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": PATHS,
            "KUBECONFIG": str(config),
            "ONCESERVE_OPERATOR_METRICS_PORT": "0",
            "ONCESERVE_OPERATOR_HEALTH_PORT": str(port),
            **settings(secret),
        }
        with subprocess.Popen([sys.executable, "-m", "onceserve_operator.main"], env=environment) as process:
            try:
                eventually(lambda: "does not answer" in ask(port, "readyz")[1], "it knows")
                assert ask(port, "readyz")[0] == 503
                assert ask(port, "healthz") == (200, "ok\n")
                process.terminate()
                assert process.wait(timeout=10) == 0
            finally:
                process.kill()


def kubeconfig(directory: Path, port: int) -> Path:
    """Return the path of a kubeconfig for what listens on a port."""
    path = directory / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "me", "user": {"token": "token"}}],
    }
    path.write_text(yaml.safe_dump(config))
    return path


def ask(port: int, path: str) -> tuple[int, str]:
    """Return status and words of a probe; 0 where nobody answers."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/{path}", timeout=5)
    except httpx.HTTPError:
        return 0, ""
    return answer.status_code, answer.text
