import os
from pathlib import Path

import pytest

import images
from images import builder, sources
from images.cli import main
from images.errors import ImageError
from images.request import Request


class Engine:
    """Stands where buildah or Docker would run, and writes what a test can tell apart."""

    def __init__(self) -> None:
        self.built: list[Request] = []
        self.fails = False

    def __call__(self, _engine: str, request: Request) -> int:
        self.built.append(request)
        request.log.write_text("STEP 1")
        if self.fails:
            raise ImageError("exactly this")
        request.archive.write_text(f"archive {len(self.built)}")
        return 2_500_000


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Engine:
    stand_in = Engine()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(builder, "_run", stand_in)
    monkeypatch.setattr(builder, "choose", lambda engine: engine)
    return stand_in


def test_an_image_is_built_once(engine: Engine) -> None:
    [first] = images.build("server")
    [second] = images.build("server")
    assert first == second
    assert len(engine.built) == 1
    assert first.read_text() == "archive 1"
    assert builder.sizes(first) == builder.Sizes(len("archive 1"), 2_500_000)


def test_all_are_built_by_default(engine: Engine) -> None:
    archives = images.build()
    assert [archive.name.partition("-")[0] for archive in archives] == ["operator", "server", "store"]
    assert [request.target for request in engine.built] == ["operator", "server", "store"]


def test_another_base_or_engine_is_another_image(engine: Engine) -> None:
    built = images.build("server") + images.build("server", base="x") + images.build("server", engine="docker")
    assert len(set(built)) == 3


def test_the_build_sees_a_copy_and_its_key_names_the_archive(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def copy_and_edit(target: str, destination: Path) -> None:
        real(target, destination)
        (destination / "Dockerfile").write_text("FROM scratch\n")

    [before] = images.build("server")
    before.unlink()
    real = sources.copy
    monkeypatch.setattr(sources, "copy", copy_and_edit)
    [after] = images.build("server")
    assert after != before


def test_a_failed_build_leaves_its_log_and_nothing_else(engine: Engine) -> None:
    engine.fails = True
    with pytest.raises(ImageError, match="exactly this"):
        images.build("server")
    assert sorted(path.suffix for path in builder.directory().iterdir()) == ["", ".log"]
    engine.fails = False
    [archive] = images.build("server")
    assert archive.exists()
    assert not archive.with_suffix(".log").exists()


def test_only_the_last_used_archives_are_kept(engine: Engine) -> None:
    archives = [images.build("server", base=str(number))[0] for number in range(builder.KEPT_ARCHIVES)]
    for age, archive in enumerate(archives):
        os.utime(archive, (1_000_000 - age, 1_000_000 - age))
    images.build("server", base="0")
    images.build("server", base="another")
    assert [archive.exists() for archive in archives] == [True, True, True, False]
    assert len(list(builder.directory().glob("server-*.json"))) == builder.KEPT_ARCHIVES


def test_an_unknown_image_is_told(engine: Engine) -> None:
    with pytest.raises(ImageError, match="there is no image client; there are operator, server, store"):
        images.build("client")


def test_references_are_what_containerd_makes_of_the_short_names() -> None:
    assert images.reference("server") == f"docker.io/onceserve/server:{sources.version()}"


def test_the_command_line_prints_sizes_and_copies(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", "--target", "server", "--output", str(tmp_path / "out")]) == 0
    [_, row] = capsys.readouterr().out.splitlines()
    copied = tmp_path / "out" / f"onceserve-server-{sources.version()}.tar"
    assert row.split() == [images.reference("server"), "0.0", "MB", "2.5", "MB", str(copied)]
    assert copied.read_text() == "archive 1"


def test_the_command_line_reports_a_failure_in_words(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.fails = True
    assert main(["build"]) == 1
    assert capsys.readouterr().err == "images: exactly this\n"
