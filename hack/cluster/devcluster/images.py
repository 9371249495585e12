"""Images without a registry: written as OCI archives, imported into the nodes."""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devcluster import binaries, configs
from devcluster.errors import ClusterError
from devcluster.files import locked, write_atomically

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
REFERENCE = "org.opencontainers.image.ref.name"
NAME = "io.containerd.image.name"
OCI = "application/vnd.oci.image"
NOBODY = "65532:65532"


@dataclass(frozen=True)
class Image:
    """An image in an archive: its name and the digest of its manifest."""

    name: str
    digest: str


@dataclass(frozen=True)
class Blob:
    """Content known by its hash."""

    media_type: str
    content: bytes

    @property
    def hex(self) -> str:
        """The hash that names the blob."""
        return hashlib.sha256(self.content).hexdigest()

    def descriptor(self, **more: Any) -> dict[str, Any]:  # noqa: ANN401
        """Return the reference by which other blobs mean this one."""
        return {"mediaType": self.media_type, "digest": f"sha256:{self.hex}", "size": len(self.content), **more}


def write_archive(path: Path, name: str, program: Path, user: str = NOBODY) -> None:
    """Write an image of one static program, which is its entry point; equal input gives equal bytes."""
    layer = Blob(f"{OCI}.layer.v1.tar", _tar({program.name: program.read_bytes()}, mode=0o755))
    config = _json_blob(f"{OCI}.config.v1+json", _config(f"/{program.name}", user, layer))
    manifest = _json_blob(
        f"{OCI}.manifest.v1+json",
        {"schemaVersion": 2, "config": config.descriptor(), "layers": [layer.descriptor()]},
    )
    entry = manifest.descriptor(annotations={NAME: name, REFERENCE: name})
    files = {
        "oci-layout": _encode({"imageLayoutVersion": "1.0.0"}),
        "index.json": _encode({"schemaVersion": 2, "manifests": [entry]}),
        **{f"blobs/sha256/{blob.hex}": blob.content for blob in (manifest, config, layer)},
    }
    write_atomically(path, _tar(files, mode=0o644))


def _config(program: str, user: str, layer: Blob) -> dict[str, Any]:
    return {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Entrypoint": [program], "User": user},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.hex}"]},
    }


def _encode(content: object) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def _json_blob(media_type: str, content: object) -> Blob:
    return Blob(media_type, _encode(content))


def _tar(files: Mapping[str, bytes], mode: int) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def read_images(archive: Path) -> list[Image]:
    """Return what is in an OCI archive."""
    try:
        with tarfile.open(archive) as stream:
            index = stream.extractfile("index.json")
            entries = json.load(index)["manifests"] if index else []
    except (OSError, KeyError, tarfile.TarError) as error:
        raise ClusterError(f"{archive} is no OCI image archive: {error}") from error
    return [Image(_name(archive, entry), entry["digest"]) for entry in entries]


def _name(archive: Path, entry: Mapping[str, Any]) -> str:
    annotations = entry.get("annotations", {})
    name = annotations.get(NAME) or annotations.get(REFERENCE)
    if not name:
        raise ClusterError(f"{archive} does not say its image's name (annotation {REFERENCE})")
    return str(name)


def key(archive: Path) -> str:
    """Return a name for the archive that is the same for the same images."""
    images = sorted(f"{image.name}@{image.digest}" for image in read_images(archive))
    return hashlib.sha256("\n".join(images).encode()).hexdigest()[:16]


def own_archive(component: binaries.Component, name: str, user: str = NOBODY) -> Path:
    """Return the archive of one of the cluster's own images, written on first use."""
    directory = binaries.build(component)
    recipe = hashlib.sha256(f"{name} {user}".encode() + Path(__file__).read_bytes()).hexdigest()[:8]
    path = binaries.cache_root() / "images" / f"{directory.name}-{recipe}.tar"
    with locked(Path(f"{path}.lock")):
        if not path.exists():
            write_archive(path, name, directory / component.binaries[0], user)
    return path


def core_archives() -> list[Path]:
    """Return the images that every node needs."""
    # CoreDNS binds port 53.
    return [
        own_archive(binaries.PAUSE, configs.PAUSE_IMAGE),
        own_archive(binaries.COREDNS, configs.COREDNS_IMAGE, user="0:0"),
    ]


def probe_archive() -> Path:
    """Return the image that the cluster's own tests run."""
    return own_archive(binaries.PROBE, configs.PROBE_IMAGE)
