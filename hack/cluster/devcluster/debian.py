"""Installs Debian packages, where that is possible; their services are not started."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from devcluster.errors import PreflightError
from devcluster.files import locked

SECONDS = 600
"""For the lists, and again for the packages."""
_POLICY = Path("/usr/sbin/policy-rc.d")
"""What says whether a service that is installed is started; 101 is no (Debian's policy, 9.3.3.1)."""


def can_install() -> bool:
    """Tell whether packages can be installed here."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(packages: Sequence[str]) -> None:
    """Install packages; raises PreflightError with their names where that cannot be done."""
    names = " and ".join(packages)
    if not can_install():
        raise PreflightError(f"install {names} (on Debian, as root, it is done for you)")
    print(f"installing {names}", file=sys.stderr, flush=True)
    # apt-get does not wait for another, and what the tests start side by side may lack something each.
    with locked(Path(tempfile.gettempdir()) / "onceserve-apt.lock"), _nothing_started():
        _apt_get("update")
        result = _apt_get("install", "--yes", "--no-install-recommends", *packages)
    if result.returncode != 0:
        raise PreflightError(f"apt-get could not install {names}:\n{result.stdout}{result.stderr}")


def _apt_get(*arguments: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            ["apt-get", *arguments],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PreflightError(f"apt-get {' '.join(arguments)} took more than {SECONDS} s") from error


@contextlib.contextmanager
def _nothing_started() -> Iterator[None]:
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()
