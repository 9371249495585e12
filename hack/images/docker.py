"""Builds with a Docker daemon."""

from pathlib import Path

from images import steps
from images.errors import ImageError
from images.request import Request

# Before 23 the builder without mounts was the default one.
BUILDKIT = {"DOCKER_BUILDKIT": "1"}


def is_available() -> bool:
    """Tell whether a daemon answers."""
    return steps.query(["docker", "info", "--format", "{{.ServerVersion}}"]).returncode == 0


def build(request: Request) -> int:
    """Build the image into its archive; return its size unpacked."""
    if not is_available():
        raise ImageError("no Docker daemon answers `docker info`: start one, or use --engine buildah")
    steps.run(f"building {request.reference}", build_command(request), request.log, BUILDKIT)
    save: list[str | Path] = ["docker", "save", "--output", request.archive, request.reference]
    steps.run(f"saving {request.reference}", save, request.log)
    size = steps.query(["docker", "image", "inspect", "--format", "{{.Size}}", request.reference])
    return int(size.stdout)


def build_command(request: Request) -> list[str | Path]:
    """Return the command line of the build."""
    arguments = [f"VERSION={request.version}", *([f"BASE={request.base}"] if request.base else [])]
    options = [option for argument in arguments for option in ("--build-arg", argument)]
    command = ["docker", "build", "--progress", "plain", "--target", request.target, "--tag", request.reference]
    return [*command, *options, request.context]
