"""What the machine needs to build images without Docker."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from images import steps
from images.errors import ImageError

EVIDENCE = {
    "buildah": "buildah",
    "debian-archive-keyring": "/usr/share/keyrings/debian-archive-keyring.gpg",
    "gpg": "gpg",
    "mmdebstrap": "mmdebstrap",
}
"""By Debian package the program or file that shows that it is there."""


def can_use_buildah() -> bool:
    """Tell whether images can be built without Docker here, perhaps after installing packages."""
    return os.geteuid() == 0 and (not missing_packages() or shutil.which("apt-get") is not None)


def missing_packages() -> list[str]:
    """Return the Debian packages that are to be installed."""
    return [
        package
        for package, evidence in EVIDENCE.items()
        if not (shutil.which(evidence) or Path("/", evidence).exists())
    ]


def install_packages() -> None:
    """Install the missing Debian packages, or say that it takes them and root."""
    packages = missing_packages()
    if os.geteuid() != 0:
        raise ImageError("buildah needs root here (sudo); or start Docker and use --engine docker")
    if packages and shutil.which("apt-get") is None:
        raise ImageError(f"install {', '.join(packages)}; or start Docker and use --engine docker")
    if packages:
        _install(packages)


def _install(packages: Sequence[str]) -> None:
    print(f"installing {' '.join(packages)}", file=sys.stderr)
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    steps.query(["apt-get", "update"], quiet)
    result = steps.query(["apt-get", "install", "--yes", "--no-install-recommends", *packages], quiet)
    if result.returncode != 0:
        raise ImageError(f"apt-get could not install {' '.join(packages)}:\n{result.stdout}{result.stderr}")
