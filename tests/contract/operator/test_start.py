"""How the operator process ends when it cannot start: in words."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def start(**environment: str) -> subprocess.CompletedProcess[str]:
    paths = f"{ROOT / 'operator'}:{ROOT / 'serving'}"
    return subprocess.run(
        [sys.executable, "-m", "onceserve_operator.main"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": paths, "ONCESERVE_OPERATOR_METRICS_PORT": "0", **environment},
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
        "ONCESERVE_OPERATOR_RESYNC: Input should be greater than or equal to 1",
    ]


def settings(secret: Path) -> dict[str, str]:
    return {
        "ONCESERVE_OPERATOR_SERVER_IMAGE": "example/server:1",
        "ONCESERVE_OPERATOR_VERIFICATION_SECRET_FILE": str(secret),
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
