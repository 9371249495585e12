"""What an image is made of, and the key that changes with it."""

import hashlib
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COMMON = (".dockerignore", "Dockerfile", "LICENSE", "hack/images/rootfs.py", "pyproject.toml", "uv.lock")
SOURCES: dict[str, tuple[str, ...]] = {
    "operator": ("operator", "serving/onceserve_contract"),
    "server": ("serving", "hack/images/hook.py"),
    "store": (),
}


def version(root: Path = ROOT) -> str:
    """Return the version of the distribution, which is the images' tag."""
    return str(_settings(root)["project"]["version"])


def compiled_modules(root: Path = ROOT) -> list[str]:
    """Return the server's modules that are compiled, as paths below its source root."""
    modules: list[str] = _settings(root)["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["modules"]
    return modules


def _settings(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text())


def files(target: str, root: Path = ROOT) -> list[Path]:
    """Return every file that the image depends on."""
    return sorted(file for name in (*COMMON, *SOURCES[target]) for file in _files_in(root / name))


def _files_in(path: Path) -> Iterator[Path]:
    found = path.rglob("*") if path.is_dir() else [path]
    return (file for file in found if file.is_file() and not _is_ignored(file))


def _is_ignored(path: Path) -> bool:
    return path.suffix == ".pyc" or "__pycache__" in path.parts


def key(target: str, *conditions: str, root: Path = ROOT) -> str:
    """Hash the files and whatever else decides about the image."""
    digest = hashlib.sha256(repr(conditions).encode())
    for file in files(target, root):
        content = file.read_bytes()
        # The lengths keep one file's end from passing for the next one's beginning.
        digest.update(repr((file.relative_to(root).as_posix(), _mode(file), len(content))).encode() + content)
    return digest.hexdigest()[:16]


def copy(target: str, destination: Path, root: Path = ROOT) -> None:
    """Copy what the image depends on, so that an edit during the build does not get into it."""
    for file in files(target, root):
        copied = destination / file.relative_to(root)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, copied)


def _mode(file: Path) -> int:
    return file.stat().st_mode & 0o777
