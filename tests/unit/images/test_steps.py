import sys
from pathlib import Path

import pytest

from images import steps
from images.errors import ImageError


def python(script: str) -> list[str]:
    return [sys.executable, "-c", script]


def test_a_failure_shows_the_end_of_the_output_and_where_all_of_it_is(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "for i in range(100): print('line', i)\nraise SystemExit(3)"
    with pytest.raises(ImageError) as caught:
        steps.run("building", python(script), log)
    text = str(caught.value)
    assert text.startswith("building failed with status 3: ")
    assert "line 60\n" in text
    assert "line 59\n" not in text
    assert text.endswith(f"line 99\nall of it: {log}")


def test_a_long_step_tells_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(steps, "PROGRESS_SECONDS", 0.2)
    steps.run("building", python("import time; print('STEP 3', flush=True); time.sleep(2)"), tmp_path / "log")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "building …"
    assert any(line.endswith(" s: STEP 3") for line in lines[1:-1])
    assert lines[-1].startswith("building: done after ")


def test_the_environment_is_added_to(tmp_path: Path) -> None:
    log = tmp_path / "log"
    steps.run("asking", python("import os; print(os.environ['ADDED'], 'PATH' in os.environ)"), log, {"ADDED": "yes"})
    assert log.read_text() == "yes True\n"


def test_a_question_to_a_missing_program_is_answered_with_failure() -> None:
    assert steps.query(["/nonexistent"]).returncode == 127
