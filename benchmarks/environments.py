"""A virtual environment for each peer, made by uv from its pinned requirements and kept in the user's cache."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from benchmarks.errors import UnservedError
from benchmarks.machine import ROOT

PEERS: Final = Path(__file__).parent / "peers"
COMPLETE: Final = ".complete"
LIMIT: Final = 900.0
"""Seconds that one installation may take."""


def python(name: str) -> Path:
    """Return the interpreter of a peer's environment, made where it is missing.

    Raises UnservedError with the installer's words if it cannot be made.
    """
    requirements = PEERS / name / "requirements.txt"
    home = cache() / f"{name}-{key(requirements.read_bytes())}"
    if not (home / COMPLETE).exists():
        _make(home, requirements)
    return home / "bin" / "python"


def versions(names: Iterable[str]) -> dict[str, str]:
    """Return the pinned release of each peer by the name of its package."""
    return dict(_version(PEERS / name) for name in names)


def _version(peer: Path) -> tuple[str, str]:
    package = (peer / "requirements.in").read_text().split()[0].partition("[")[0]
    pins = (line.split()[0].partition("==") for line in (peer / "requirements.txt").read_text().splitlines())
    return package, next(release for name, _, release in pins if name == package)


def cache() -> Path:
    """Return where the environments are."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onceserve" / "peers"


def key(requirements: bytes) -> str:
    """Return what names an environment: it is another when the requirements or the interpreter are."""
    return hashlib.sha256(requirements + sys.version.encode()).hexdigest()[:12]


def uv() -> str:
    """Return the path of uv."""
    return _run([str(ROOT / "hack" / "bootstrap.sh")]).strip()


def _make(home: Path, requirements: Path) -> None:
    print(f"installing {home.name} (once, into {home.parent})", file=sys.stderr, flush=True)
    shutil.rmtree(home, ignore_errors=True)
    home.parent.mkdir(parents=True, exist_ok=True)
    _run([uv(), "venv", "--quiet", "--python", sys.executable, str(home)])
    install = [uv(), "pip", "install", "--quiet", "--python", str(home / "bin" / "python")]
    _run([*install, "--requirement", str(requirements)])
    (home / COMPLETE).touch()
    size = sum(file.stat().st_size for file in home.rglob("*") if not file.is_symlink()) >> 20
    print(f"installed {home.name}: {size} MB", file=sys.stderr, flush=True)


def _run(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT).stdout
    except subprocess.TimeoutExpired as error:
        raise UnservedError(f"not installed: not within {LIMIT:g} s") from error
    except subprocess.CalledProcessError as error:
        raise UnservedError(f"not installed: {error.stderr.strip()[-2000:]}") from error
