from pathlib import Path

import pytest

from images import base, buildah, builder, docker, preflight
from images.buildah import OVERLAY, VFS, Storage
from images.errors import ImageError
from images.request import Request


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    reference = "docker.io/onceserve/server:1.2.3"
    return Request("server", tmp_path / "context", reference, "1.2.3", None, tmp_path / "a.tar", tmp_path / "log")


def words(command: list[str | Path]) -> str:
    return " ".join(map(str, command))


def test_buildah_builds_in_a_storage_of_its_own(request_: Request, tmp_path: Path) -> None:
    line = words(buildah.build_command(Storage(tmp_path, OVERLAY), request_, "localhost/base"))
    assert line.startswith(
        f"buildah --root {tmp_path}/overlay --runroot {tmp_path}/run --storage-driver overlay "
        "--storage-opt overlay.skip_mount_home=true build --layers --isolation chroot --network host "
    )
    assert line.endswith(
        "--build-arg BASE=localhost/base --build-arg VERSION=1.2.3 --timestamp 0 --target server "
        f"--tag docker.io/onceserve/server:1.2.3 {tmp_path}/context"
    )


@pytest.mark.parametrize("there", [True, False])
def test_the_build_trusts_whom_the_machine_trusts(
    request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    certificates = tmp_path if there else tmp_path / "none"
    monkeypatch.setattr(buildah, "CERTIFICATES", certificates)
    line = words(buildah.build_command(Storage(tmp_path, VFS), request_, "localhost/base"))
    assert (f"--volume {certificates}:{certificates}:ro" in line) == there


def test_buildah_names_the_image_in_the_archive(request_: Request, tmp_path: Path) -> None:
    line = words(buildah.push_command(Storage(tmp_path, VFS), request_))
    assert line.endswith(f"oci-archive:{tmp_path}/a.tar:docker.io/onceserve/server:1.2.3")
    assert "--storage-driver vfs push" in line


def test_docker_takes_the_file_s_own_base_unless_told(request_: Request, tmp_path: Path) -> None:
    line = words(docker.build_command(request_))
    assert line == (
        "docker build --progress plain --target server --tag docker.io/onceserve/server:1.2.3 "
        f"--build-arg VERSION=1.2.3 {tmp_path}/context"
    )


def test_docker_takes_another_base(request_: Request) -> None:
    other = Request(**{**vars(request_), "base": "debian-with-python"})
    assert "--build-arg VERSION=1.2.3 --build-arg BASE=debian-with-python " in words(docker.build_command(other))


def test_the_base_system_has_what_the_dockerfile_needs_of_it() -> None:
    line = words(base.command(Path("base.tar")))
    assert line.startswith("mmdebstrap --variant=minbase")
    assert line.endswith("--include=ca-certificates,python3,python3-venv bookworm base.tar")


def test_the_base_s_name_changes_with_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    before = base.reference()
    assert before == base.reference()
    monkeypatch.setattr(base, "SUITE", "trixie")
    assert base.reference() != before


@pytest.mark.parametrize(("buildah_works", "docker_works", "chosen"), [(1, 1, "buildah"), (0, 1, "docker")])
def test_auto_takes_what_works_here(
    monkeypatch: pytest.MonkeyPatch, buildah_works: int, docker_works: int, chosen: str
) -> None:
    monkeypatch.setattr(preflight, "can_use_buildah", lambda: bool(buildah_works))
    monkeypatch.setattr(docker, "is_available", lambda: bool(docker_works))
    assert builder.choose("auto") == chosen
    assert builder.choose("docker") == "docker"


def test_auto_says_what_to_do_where_nothing_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "can_use_buildah", lambda: False)
    monkeypatch.setattr(docker, "is_available", lambda: False)
    with pytest.raises(ImageError, match="be root on a Debian or Ubuntu"):
        builder.choose("auto")


def test_docker_without_a_daemon_says_so(request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ImageError, match="no Docker daemon answers"):
        docker.build(request_)


def test_a_missing_program_is_asked_for_by_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert not preflight.can_use_buildah()
    monkeypatch.setitem(preflight.EVIDENCE, "debian-archive-keyring", "/nonexistent")
    with pytest.raises(ImageError, match="install buildah and debian-archive-keyring and gpg and mmdebstrap"):
        preflight.install_packages()


def test_buildah_without_root_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert not preflight.can_use_buildah()
    with pytest.raises(ImageError, match="needs root"):
        preflight.install_packages()
