"""What the machine needs to build images without Docker."""

import os
import shutil
from pathlib import Path

from devcluster import debian
from devcluster.errors import PreflightError
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
    return os.geteuid() == 0 and (not missing_packages() or debian.can_install())


def missing_packages() -> list[str]:
    """Return the Debian packages that are to be installed."""
    return [
        package
        for package, evidence in EVIDENCE.items()
        if not (shutil.which(evidence) or Path("/", evidence).exists())
    ]


def install_packages() -> None:
    """Install the missing Debian packages, or say that it takes them and root."""
    if os.geteuid() != 0:
        raise ImageError("buildah needs root here (sudo); or start Docker and use --engine docker")
    if packages := missing_packages():
        try:
            debian.install(packages)
        except PreflightError as error:
            raise ImageError(f"{error}; or start Docker and use --engine docker") from error
