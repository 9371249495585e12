"""Programs that tests start: from Debian's packages, which are installed where that is possible."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

POSTGRESQL = Path("/usr/lib/postgresql")
"""Debian has a folder for each version here, and links only some of its programs into PATH."""

POLICY = Path("/usr/sbin/policy-rc.d")
"""What says whether a service that is installed is started; 101 is no (Debian's policy, 9.3.3.1)."""


class MissingProgramError(Exception):
    """A program is missing and cannot be installed."""


def program(name: str, package: str) -> Path:
    """Return where a program is, if need be after installing it; raise with what to install."""
    found = _find(name) or _installed(name, package)
    if found is None:
        raise MissingProgramError(f"{name} is nowhere, though {package} is installed")
    return found


def _find(name: str) -> Path | None:
    versions = sorted(POSTGRESQL.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    return versions[-1] if versions else Path(found) if found else None


def _installed(name: str, package: str) -> Path | None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise MissingProgramError(
            f"{name} is missing: install {package} (on Debian, as root, the tests do it themselves)"
        )
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _alone(), _nothing_started():
        if found := _find(name):
            return found
        for arguments in (["update"], ["install", "--yes", "--no-install-recommends", package]):
            result = subprocess.run(
                ["apt-get", *arguments], env=environment, capture_output=True, text=True, check=False
            )
    if result.returncode != 0:
        raise MissingProgramError(f"apt-get could not install {package}:\n{result.stdout}{result.stderr}")
    return _find(name)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Let no other of the tests' processes install at the same time."""
    with (Path(tempfile.gettempdir()) / "onceserve-tests-apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _nothing_started() -> Iterator[None]:
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()
