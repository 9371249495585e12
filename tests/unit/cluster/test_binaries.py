from pathlib import Path

import pytest

from devcluster import binaries
from devcluster.errors import BuildError


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(binaries, "MODULES", tmp_path)
    directory = tmp_path / "thing"
    directory.mkdir()
    (directory / "go.mod").write_text("module thing\n")
    (directory / "go.sum").write_text("sums\n")
    return directory


THING = binaries.Component("thing", ("thing",), cold_seconds=1)


def test_the_key_stays_while_nothing_changes(module: Path) -> None:
    assert module.exists()
    assert binaries.cache_key(THING) == binaries.cache_key(THING)


@pytest.mark.parametrize("file", ["go.mod", "go.sum", "main.go"])
def test_the_key_follows_every_source(module: Path, file: str) -> None:
    before = binaries.cache_key(THING)
    (module / file).write_text("changed\n")
    assert binaries.cache_key(THING) != before


def test_the_key_follows_the_flags(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert module.exists()
    before = binaries.cache_key(THING)
    monkeypatch.setattr(binaries, "FLAGS", ())
    assert binaries.cache_key(THING) != before


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert binaries.cache_root() == tmp_path / "onceserve"


def test_assets_of_the_environment_come_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "etcd").touch()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    assert binaries.find_asset("etcd") == tmp_path / "etcd"


def test_an_unknown_binary_is_named_with_the_known_ones() -> None:
    with pytest.raises(BuildError, match=r"no binary called vi; there are .*kubectl"):
        binaries.find("vi")


def test_every_component_has_its_pins() -> None:
    assert [component.name for component in binaries.COMPONENTS if not (component.module / "go.mod").is_file()] == []
