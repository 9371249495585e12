"""Programs that tests start: from Debian's packages, which are installed where that is possible."""

import os
import shutil
from pathlib import Path

from devcluster import debian
from devcluster.errors import PreflightError

POSTGRESQL = Path("/usr/lib/postgresql")
"""Debian has a folder for each version here, and links only some of its programs into PATH."""


def program(name: str, package: str) -> Path:
    """Return where a program is, if need be after installing it; raises PreflightError with what to install."""
    if (found := _find(name)) is None:
        debian.install([package])
        found = _find(name)
    if found is None:
        raise PreflightError(f"{name} is nowhere, though {package} is installed")
    return found


def _find(name: str) -> Path | None:
    versions = sorted(POSTGRESQL.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    return versions[-1] if versions else Path(found) if found else None
