"""The server's packages as its image has them, for who runs them here: built once for every state of the sources."""

import functools
import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

from devcluster import debian
from devcluster.binaries import cache_root
from devcluster.errors import PreflightError
from devcluster.files import locked
from images import sources, steps
from images.errors import ImageError

KEPT = 4


@functools.cache
def build() -> Path:
    """Return a directory with the packages, compiled for this interpreter; raises ImageError.

    The same for the life of this process: what it starts is one server, whoever edits the sources meanwhile.
    """
    with locked(_directory() / "lock"):
        built = _directory() / sources.key("server", sys.version, sysconfig.get_config_var("EXT_SUFFIX"))
        if not built.exists():
            _require_compiler()
            _build(built)
            _prune(_directory())
        os.utime(built)
        return built


def _directory() -> Path:
    return cache_root() / "compiled"


def _require_compiler() -> None:
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    try:
        if shutil.which("cc") is None:
            debian.install(["gcc", "libc6-dev"])
        if not headers.exists() and headers.is_relative_to("/usr/include"):
            debian.install(["python3-dev"])
    except PreflightError as error:
        raise ImageError(f"compiling the server takes a C compiler and Python's headers: {error}") from error
    if not headers.exists():
        raise ImageError(f"{headers} is missing: install the headers of {sys.executable}")


def _build(destination: Path) -> None:
    with tempfile.TemporaryDirectory(dir=_directory(), prefix=".") as draft:
        context, packages = Path(draft) / "context", Path(draft) / "packages"
        sources.copy("server", context)
        # The distribution's metadata name it.
        (context / "README.md").touch()
        command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", draft]
        environment = {"HATCH_BUILD_HOOK_ENABLE_CUSTOM": "1"}
        steps.run("compiling the server", command, destination.with_suffix(".log"), environment, context)
        [wheel] = Path(draft).glob("*.whl")
        shutil.unpack_archive(wheel, packages, "zip")
        packages.rename(destination)


def _prune(directory: Path) -> None:
    built = [path for path in directory.glob("[!.]*") if path.is_dir()]
    for old in sorted(built, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT:]:
        shutil.rmtree(old)
        old.with_suffix(".log").unlink(missing_ok=True)
