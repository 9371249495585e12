from pathlib import Path

import pytest

import generate
from generate import GENERATED, ROOT, check, drift, write

ONE = {"folder/file.txt": lambda: "new\n"}


def test_nothing_generated_is_out_of_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(ROOT, GENERATED) == 0, capsys.readouterr().out


def test_check_shows_the_difference_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file.txt").write_text("old\n")
    assert check(tmp_path, ONE) == 1
    assert (tmp_path / "folder" / "file.txt").read_text() == "old\n"
    output = capsys.readouterr()
    assert "-old\n+new\n" in output.out
    assert "1 of 1 generated files are out of date" in output.err


def test_write_makes_what_is_missing_and_then_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert write(tmp_path, ONE) == 0
    assert (tmp_path / "folder" / "file.txt").read_text() == "new\n"
    assert drift(tmp_path, ONE) == {}
    write(tmp_path, ONE)
    assert capsys.readouterr().out == "wrote folder/file.txt\n"


@pytest.mark.parametrize(("arguments", "status"), [(["--check"], 1), ([], 0)])
def test_the_command_line(arguments: list[str], status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr(generate, "GENERATED", ONE)
    assert generate.main(arguments) == status


def test_the_reference_tells_type_default_constraint_and_rule() -> None:
    page = GENERATED["docs/reference/modeldeployment.md"]()
    for line in (
        "- **`replicas`** (integer, default `1`)",
        "  Constraints: 0 to 1000.",
        "- **`uri`** (string, required)",
        "  Rule: must start with https://, http://, configmap:// or file:///.",
        "- **`requests`** (map from string to integer or string)",
        "- **`env`** (list of objects, unique by `name`)",
        "## `spec.server.env[].valueFrom.secretKeyRef`",
    ):
        assert line in page.splitlines(), line
