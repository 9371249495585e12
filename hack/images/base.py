"""The base image where there is no registry to take one from: a Debian with Python, out of Debian packages."""

import hashlib
from pathlib import Path

from images import steps

SUITE = "bookworm"
PACKAGES = ("ca-certificates", "python3", "python3-venv")
# The images keep licenses only; what is not unpacked need not be skipped later.
OPTIONS = (
    "--variant=minbase",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    f"--include={','.join(PACKAGES)}",
)
DOCKERFILE = """\
FROM scratch
ADD base.tar /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
"""


def reference() -> str:
    """Return the base image's local name, which changes with what it is made of."""
    key = hashlib.sha256(repr((SUITE, OPTIONS, DOCKERFILE)).encode()).hexdigest()[:16]
    return f"localhost/onceserve/base:{key}"


def write_context(directory: Path, log: Path) -> None:
    """Fill a directory with what the base image is built from."""
    steps.run("installing the base system", command(directory / "base.tar"), log)
    (directory / "Dockerfile").write_text(DOCKERFILE)


def command(archive: Path) -> list[str | Path]:
    """Return the command line that installs a Debian into an archive."""
    return ["mmdebstrap", *OPTIONS, SUITE, archive]
