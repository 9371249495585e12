"""Which models this server can load: those that the settings name and those that lie in the repository."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from onceserve_serving.errors import InvalidSettingsError
from onceserve_serving.settings import Settings, name_from_uri

FILE: Final = "model.onnx"
FIRST_VERSION: Final = "1"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model comes from; an empty `sha256` takes any content."""

    name: str
    version: str
    uri: str
    sha256: str = ""


class Catalog:
    """The sources by name. The repository is looked into anew each time, since models come and go in it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._named = dict(_named(settings))
        if len(self._named) < bool(settings.model_uri) + len(settings.models):
            raise InvalidSettingsError("--model (or ONCESERVE_MODELS): expected a name of its own for each model")
        if settings.repository is not None and not settings.repository.is_dir():
            raise InvalidSettingsError(
                f"--repository (or ONCESERVE_REPOSITORY): expected a directory, {settings.repository} is none"
            )

    def sources(self) -> Mapping[str, Source]:
        """Return all that can be loaded now; a name in the settings wins over one in the repository."""
        return {**dict(self._stored()), **self._named}

    def at_start(self) -> list[str]:
        """Return the names of what is loaded without being asked for."""
        return list(self._named if self._settings.repository_mode == "explicit" else self.sources())

    def _stored(self) -> Iterator[tuple[str, Source]]:
        root = self._settings.repository
        for path in sorted(root.iterdir()) if root is not None else []:
            if not path.name.startswith(".") and (found := _found(path)) is not None:
                version, file = found
                name = name_from_uri(str(path) if path.is_file() else f"{path}.onnx")
                yield name, Source(name, version, str(file))


def _named(settings: Settings) -> Iterator[tuple[str, Source]]:
    if settings.model_uri:
        name = settings.served_name
        yield name, Source(name, settings.model_version, settings.model_uri, settings.model_sha256)
    for one in settings.models:
        name, _, uri = one.partition("=")
        yield name, Source(name, settings.model_version, uri)


def _found(path: Path) -> tuple[str, Path] | None:
    """Return the version and file of the model at an entry of the repository."""
    if path.is_file():
        return (FIRST_VERSION, path) if path.suffix == ".onnx" else None
    versions = (
        [one for one in path.iterdir() if one.name.isdecimal() and (one / FILE).is_file()] if path.is_dir() else []
    )
    if versions:
        newest = max(versions, key=lambda one: int(one.name))
        return newest.name, newest / FILE
    return (FIRST_VERSION, path / FILE) if (path / FILE).is_file() else None
