"""Builds an image once for every state of the sources."""

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from devcluster.binaries import cache_root
from devcluster.files import locked, write_atomically
from images import buildah, docker, preflight, sources
from images.errors import ImageError
from images.request import Request

TARGETS = tuple(sources.SOURCES)
ENGINES = ("auto", "buildah", "docker")
KEPT_ARCHIVES = 4


@dataclass(frozen=True)
class Sizes:
    """What an image takes, in bytes."""

    archive: int
    unpacked: int


def directory() -> Path:
    """Return where archives and layers are kept."""
    return cache_root() / "images" / "onceserve"


def reference(target: str) -> str:
    """Return the image's full name: what a pod's `onceserve/server:0.1.0` stands for."""
    return f"docker.io/onceserve/{target}:{sources.version()}"


def build(*targets: str, base: str | None = None, engine: str = "auto") -> list[Path]:
    """Return the OCI archives of the images (default: all), each built unless that has been done from these sources."""
    unknown = [target for target in targets if target not in TARGETS]
    if unknown:
        raise ImageError(f"there is no image {unknown[0]}; there are {', '.join(TARGETS)}")
    with locked(directory() / "lock"):
        return [_ensure(target, base, engine) for target in targets or TARGETS]


def _ensure(target: str, base: str | None, engine: str) -> Path:
    archive = _archive(target, base, engine, sources.ROOT)
    if not archive.exists():
        archive = _build(target, base, engine)
        _prune(target)
    os.utime(archive)
    return archive


def _archive(target: str, base: str | None, engine: str, root: Path) -> Path:
    key = sources.key(target, reference(target), base or "", engine, root=root)
    return directory() / f"{target}-{key}.tar"


def sizes(archive: Path) -> Sizes:
    """Return what an image takes."""
    return Sizes(archive.stat().st_size, json.loads(_facts(archive).read_text())["unpacked"])


def _facts(archive: Path) -> Path:
    return archive.with_suffix(".json")


def _build(target: str, base: str | None, engine: str) -> Path:
    with tempfile.TemporaryDirectory(dir=directory(), prefix=f".{target}-") as draft:
        context, drafted = Path(draft) / "context", Path(draft) / "image.tar"
        sources.copy(target, context)
        archive = _archive(target, base, engine, context)
        log = archive.with_suffix(".log")
        unpacked = _run(
            choose(engine), Request(target, context, reference(target), sources.version(context), base, drafted, log)
        )
        write_atomically(_facts(archive), json.dumps({"unpacked": unpacked}))
        drafted.rename(archive)
    log.unlink()
    return archive


def _run(engine: str, request: Request) -> int:
    if engine == "docker":
        return docker.build(request)
    return buildah.build(request, directory() / "storage")


def choose(engine: str) -> str:
    """Return the engine that `auto` means here."""
    if engine != "auto":
        return engine
    if preflight.can_use_buildah():
        return "buildah"
    if docker.is_available():
        return "docker"
    raise ImageError("nothing here builds images: be root on a Debian or Ubuntu (sudo), or start Docker")


def _prune(target: str) -> None:
    archives = sorted(directory().glob(f"{target}-*.tar"), key=lambda path: path.stat().st_mtime, reverse=True)
    for archive in archives[KEPT_ARCHIVES:]:
        archive.unlink()
        _facts(archive).unlink(missing_ok=True)


def copy_to(archive: Path, target: str, output: Path) -> Path:
    """Copy an archive to where a person wants it."""
    output.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(archive, output / f"onceserve-{target}-{sources.version()}.tar"))


def clean() -> None:
    """Remove all archives and layers; the next build starts from nothing, with today's packages of the base."""
    with locked(directory() / "lock"):
        if not preflight.missing_packages():
            buildah.open_storage(directory() / "storage").remove()
        shutil.rmtree(directory())
