"""Builds without a daemon and without a registry."""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from images import base, preflight, steps
from images.errors import ImageError
from images.request import Request

CERTIFICATES = Path("/etc/ssl/certs")
OVERLAY = ("--storage-driver", "overlay", "--storage-opt", "overlay.skip_mount_home=true")
VFS = ("--storage-driver", "vfs")
UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}


@dataclass(frozen=True)
class Storage:
    """Where buildah keeps its layers: a place of ours, apart from the containers of this machine."""

    directory: Path
    driver: tuple[str, ...]

    def command(self, *arguments: str | Path) -> list[str | Path]:
        """Return the command line of something that buildah shall do."""
        # A root per driver: buildah refuses one that another has written.
        root = self.directory / self.driver[1]
        return ["buildah", "--root", root, "--runroot", self.directory / "run", *self.driver, *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment that keeps its temporary files and downloads with the rest."""
        temporary = self.directory / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        return {"TMPDIR": str(temporary)}

    def has(self, reference: str) -> bool:
        """Tell whether an image is there."""
        return steps.query(self.command("inspect", "--type", "image", reference)).returncode == 0

    def size(self, reference: str) -> int:
        """Return how many bytes an image has unpacked, as exactly as buildah tells."""
        result = steps.query(self.command("images", "--json", reference))
        number, unit = json.loads(result.stdout)[0]["size"].split()
        return round(float(number) * UNITS[unit.upper()])

    def remove_containers(self) -> None:
        """Remove what a build that was cut off has left, with its mounts."""
        steps.query(self.command("rm", "--all"))

    def remove(self) -> None:
        """Remove everything."""
        self.remove_containers()
        shutil.rmtree(self.directory, ignore_errors=True)


def open_storage(directory: Path) -> Storage:
    """Return the storage, with layers by overlayfs where that works and as plain copies elsewhere."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory) as probe:
        trial = Storage(Path(probe), OVERLAY)
        works = steps.query(trial.command("info"), trial.environment).returncode == 0
    return Storage(directory, OVERLAY if works else VFS)


@contextlib.contextmanager
def _clean(storage: Storage) -> Iterator[None]:
    storage.remove_containers()
    try:
        yield
    except BaseException:
        storage.remove_containers()
        raise


def build(request: Request, directory: Path) -> int:
    """Build the image into its archive; return its size unpacked."""
    preflight.install_packages()
    storage = open_storage(directory)
    with _clean(storage):
        base_image = request.base or _ensure_base(storage, request.log)
        command = build_command(storage, request, base_image)
        steps.run(f"building {request.reference}", command, request.log, storage.environment)
        push = push_command(storage, request)
        steps.run(f"packing {request.reference}", push, request.log, storage.environment)
    return storage.size(request.reference)


def build_command(storage: Storage, request: Request, base_image: str) -> list[str | Path]:
    """Return the command line of the build."""
    options: list[str | Path] = ["--layers", "--isolation", "chroot", "--network", "host"]
    if CERTIFICATES.is_dir():
        # Downloads of the build trust whom this machine trusts; nothing of it gets into the image.
        options += ["--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro"]
    for argument in (f"BASE={base_image}", f"VERSION={request.version}"):
        options += ["--build-arg", argument]
    # Equal content gives equal layers, which a node that has them does not import again.
    options += ["--timestamp", "0", "--target", request.target, "--tag", request.reference]
    return storage.command("build", *options, request.context)


def push_command(storage: Storage, request: Request) -> list[str | Path]:
    """Return the command line that writes the archive."""
    destination = f"oci-archive:{request.archive}:{request.reference}"
    return storage.command("push", "--quiet", "--compression-format", "zstd", request.reference, destination)


def _ensure_base(storage: Storage, log: Path) -> str:
    reference = base.reference()
    if not storage.has(reference):
        with tempfile.TemporaryDirectory(dir=storage.directory) as directory:
            context = Path(directory)
            base.write_context(context, log)
            command = storage.command("build", "--quiet", "--timestamp", "0", "--tag", reference, context)
            steps.run("importing the base image", command, log, storage.environment)
    if not storage.has(reference):
        raise ImageError(f"buildah does not find the base image {reference} that it just made")
    return reference
