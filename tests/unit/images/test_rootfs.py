from pathlib import Path

import pytest

from images import rootfs


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


def test_a_chain_follows_every_link(tmp_path: Path) -> None:
    (tmp_path / "python3.11").touch()
    (tmp_path / "python3").symlink_to("python3.11")
    (tmp_path / "python").symlink_to(tmp_path / "python3")
    names = [path.name for path in rootfs.chain(tmp_path / "python")]
    assert names == ["python", "python3", "python3.11"]


def test_a_file_below_a_linked_directory_lands_where_the_link_leads(tmp_path: Path, target: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/libc.so.6").write_text("code")
    (tmp_path / "lib").symlink_to("usr/lib")
    rootfs.copy_chain(tmp_path / "lib/libc.so.6", target)
    copied = target / tmp_path.relative_to("/")
    assert (copied / "usr/lib/libc.so.6").read_text() == "code"
    assert not (copied / "lib").exists()


def test_of_the_standard_library_tests_and_installers_stay_behind(tmp_path: Path, target: Path) -> None:
    library = tmp_path / "lib"
    for name in ("asyncio/base.py", "test/a.py", "ensurepip/b.py", "site-packages/pip.py", "json/__pycache__/c.pyc"):
        (library / name).parent.mkdir(parents=True)
        (library / name).touch()
    rootfs.copy(library, target)
    copied = [path.name for path in target.rglob("*") if path.is_file()]
    assert copied == ["base.py"]


def test_what_is_missing_is_left_out(tmp_path: Path, target: Path) -> None:
    rootfs.copy(tmp_path / "none", target)
    assert not target.exists()


def test_only_programs_and_libraries_are_asked_for_theirs(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("ELF")
    (tmp_path / "program").write_bytes(b"\x7fELF\x02")
    assert not rootfs.is_elf(tmp_path / "text")
    assert rootfs.is_elf(tmp_path / "program")


def test_the_only_user_is_not_root_and_tmp_is_anybody_s(target: Path) -> None:
    (target / "etc").mkdir(parents=True)
    rootfs.write_accounts(target)
    assert "onceserve:x:65532:65532:" in (target / "etc/passwd").read_text()
    assert (target / "tmp").stat().st_mode & 0o7777 == 0o1777


def test_what_the_halves_use_is_not_left_out() -> None:
    for kept in ("os.py", "sqlite3", "ssl.py", "unittest", "zoneinfo", "asyncio"):
        assert not any(Path(kept).match(pattern) for pattern in rootfs.LEFT_OUT), kept
