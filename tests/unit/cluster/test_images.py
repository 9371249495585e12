import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from devcluster import images, loading
from devcluster.errors import ClusterError


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    program = tmp_path / "pause"
    program.write_bytes(b"\x7fELF")
    path = tmp_path / "image.tar"
    images.write_archive(path, "example.com/pause:1", program)
    return path


def read(archive: Path, name: str) -> bytes:
    with tarfile.open(archive) as stream:
        member = stream.extractfile(name)
        assert member is not None
        return member.read()


def follow(archive: Path, descriptor: dict[str, Any]) -> bytes:
    content = read(archive, "blobs/" + descriptor["digest"].replace(":", "/"))
    assert hashlib.sha256(content).hexdigest() == descriptor["digest"].removeprefix("sha256:")
    assert len(content) == descriptor["size"]
    return content


def test_every_descriptor_leads_to_its_blob(archive: Path) -> None:
    [entry] = json.loads(read(archive, "index.json"))["manifests"]
    manifest = json.loads(follow(archive, entry))
    config = json.loads(follow(archive, manifest["config"]))
    [layer] = manifest["layers"]
    follow(archive, layer)
    # The layer is not compressed, so both its hashes are one.
    assert config["rootfs"]["diff_ids"] == [layer["digest"]]
    assert config["config"]["Entrypoint"] == ["/pause"]


def test_the_layer_is_the_program(archive: Path, tmp_path: Path) -> None:
    [entry] = json.loads(read(archive, "index.json"))["manifests"]
    [layer] = json.loads(follow(archive, entry))["layers"]
    (tmp_path / "layer.tar").write_bytes(follow(archive, layer))
    with tarfile.open(tmp_path / "layer.tar") as stream:
        [member] = stream.getmembers()
    assert (member.name, member.mode, member.size) == ("pause", 0o755, 4)


def test_equal_input_gives_equal_bytes(archive: Path, tmp_path: Path) -> None:
    images.write_archive(tmp_path / "again.tar", "example.com/pause:1", tmp_path / "pause")
    assert (tmp_path / "again.tar").read_bytes() == archive.read_bytes()


def test_an_archive_tells_name_and_digest(archive: Path) -> None:
    [image] = images.read_images(archive)
    assert image.name == "example.com/pause:1"
    assert image.digest.startswith("sha256:")


def test_the_key_follows_the_content(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "pause").write_bytes(b"\x7fELF2")
    images.write_archive(tmp_path / "other.tar", "example.com/pause:1", tmp_path / "pause")
    assert images.key(archive) != images.key(tmp_path / "other.tar")


def test_something_else_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no archive")
    with pytest.raises(ClusterError, match=r"notes\.txt is no OCI image archive"):
        images.read_images(tmp_path / "notes.txt")


def test_a_newer_build_of_an_image_is_kept_in_place_of_the_older(archive: Path, tmp_path: Path) -> None:
    older = loading.keep(archive, tmp_path / "kept")
    assert loading.keep(archive, tmp_path / "kept") == older
    (tmp_path / "pause").write_bytes(b"\x7fELF2")
    images.write_archive(archive, "example.com/pause:1", tmp_path / "pause")
    newer = loading.keep(archive, tmp_path / "kept")
    images.write_archive(archive, "example.com/other:1", tmp_path / "pause")
    other = loading.keep(archive, tmp_path / "kept")
    assert set((tmp_path / "kept").iterdir()) == {newer, other}
