from pathlib import Path

import pytest

from onceserve_serving import settings
from onceserve_serving.catalog import Catalog, Source
from onceserve_serving.errors import InvalidSettingsError


def catalog(**options: object) -> Catalog:
    return Catalog(settings.read(options))


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_pods_one_model_is_all_that_there_is() -> None:
    found = catalog(model_uri="/m/model.onnx", model_name="risk", model_version="r1", model_sha256="ab" * 32)
    assert found.sources() == {"risk": Source("risk", "r1", "/m/model.onnx", "ab" * 32)}
    assert found.at_start() == ["risk"]


def test_further_models_are_named() -> None:
    found = catalog(model_uri="a.onnx", models=("b=file:///x.onnx", "c=http://h/y.onnx?a=b"))
    assert {name: source.uri for name, source in found.sources().items()} == {
        "a": "a.onnx",
        "b": "file:///x.onnx",
        "c": "http://h/y.onnx?a=b",
    }


@pytest.mark.parametrize("models", [("a=x.onnx",), ("b=x.onnx", "b=y.onnx")])
def test_two_models_of_one_name_are_refused(models: tuple[str, ...]) -> None:
    with pytest.raises(InvalidSettingsError, match="a name of its own"):
        catalog(model_uri="a.onnx", models=models)


def test_a_repository_holds_files_directories_and_versions(tmp_path: Path) -> None:
    touch(
        *(tmp_path / one for one in ("flat.onnx", "plain/model.onnx", "two/2/model.onnx", "two/10/model.onnx")),
        *(
            tmp_path / one
            for one in ("notes.txt", ".hidden.onnx", "empty/readme", "two/11/other", "two/latest/model.onnx")
        ),
    )
    found = catalog(repository=tmp_path)
    assert found.sources() == {
        "flat": Source("flat", "1", str(tmp_path / "flat.onnx")),
        "plain": Source("plain", "1", str(tmp_path / "plain/model.onnx")),
        "two": Source("two", "10", str(tmp_path / "two/10/model.onnx")),
    }
    assert found.at_start() == ["flat", "plain", "two"]
    touch(tmp_path / "late.onnx")
    assert "late" in found.sources()


def test_an_explicit_repository_waits_to_be_asked_and_names_of_the_settings_win(tmp_path: Path) -> None:
    touch(tmp_path / "a.onnx", tmp_path / "b.onnx")
    found = catalog(repository=tmp_path, repository_mode="explicit", models=("a=/other.onnx",))
    assert found.at_start() == ["a"]
    assert {name: source.uri for name, source in found.sources().items()} == {
        "a": "/other.onnx",
        "b": str(tmp_path / "b.onnx"),
    }


def test_a_repository_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettingsError, match="expected a directory"):
        catalog(repository=tmp_path / "none")
