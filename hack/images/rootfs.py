"""Takes Python, or programs that are named, out of a Debian file system, and leaves the rest: shell, perl, dpkg.

Runs inside the image build, on the interpreter that is taken. It does not matter whether that came with Debian or was
built into /usr/local. Standard library only.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

# Certificates are missing on purpose: a build may run with those of its own host in their place.
KEPT = (
    "/etc/debian_version",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl/openssl.cnf",
    "/usr/lib/locale/C.utf8",
    "/usr/lib/os-release",
    "/usr/lib/ssl",
    "/usr/share/ca-certificates",
)
# A manylinux wheel may rely on these, whether Python itself needs them or not.
LIBRARIES = (
    "libc.so.6",
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libpthread.so.0",
    "libresolv.so.2",
    "librt.so.1",
    "libstdc++.so.6",
    "libutil.so.1",
)
# Of the standard library: what installs packages, develops in Python or talks to a terminal, and its tests.
LEFT_OUT = (
    "__pycache__",
    "_ctypes_test.*",
    "_curses*",
    "_dbm.*",
    "_gdbm.*",
    "_test*",
    "_tkinter.*",
    "_xx*",
    "config-*",
    "curses",
    "dist-packages",
    "distutils",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "nis.*",
    "pydoc_data",
    "readline.*",
    "site-packages",
    "test",
    "tkinter",
    "turtledemo",
    "xx*",
)
MOUNT_POINTS = ("dev", "proc", "run", "sys", "tmp")
USER = "onceserve:x:65532:65532:onceserve:/nonexistent:/nonexistent\n"
GROUP = "onceserve:x:65532:\n"


def main(target: Path, *programs: str) -> None:
    """Fill an empty directory with a root file system."""
    for link in filter(Path.is_symlink, Path("/").iterdir()):
        copy_file(link, target)
    wanted = [part for name in programs for part in program(name)] if programs else list(python())
    for source in (*map(Path, KEPT), *wanted):
        copy(source, target)
    for library in libraries(target, () if programs else named_libraries()):
        copy_chain(library, target)
    write_accounts(target)
    write_packages(target)
    subprocess.run(["ldconfig", "-X", "-r", target], check=True)


def python() -> Iterator[Path]:
    """Yield what Python is: its program and its standard library."""
    yield from program("python3")
    yield Path(sysconfig.get_path("stdlib"))


def program(name: str) -> Iterator[Path]:
    """Yield what a program is: the links up to its file."""
    found = shutil.which(name)
    if found is None:
        sys.exit(f"the base image has no {name}")
    yield from chain(Path(found))


def chain(path: Path) -> Iterator[Path]:
    """Yield a path and, where it is a link, all that it leads to."""
    yield path
    while path.is_symlink():
        path = path.parent / path.readlink()
        yield path


def copy_chain(path: Path, target: Path) -> None:
    """Copy a file and the links by which it is found."""
    for part in chain(path):
        copy_file(part, target)


def copy(source: Path, target: Path) -> None:
    """Copy a file or a tree, if there is one."""
    if not source.is_dir() or source.is_symlink():
        copy_file(source, target)
        return
    destination = inside(target, source)
    ignore = shutil.ignore_patterns(*LEFT_OUT)
    shutil.copytree(source, destination, symlinks=True, ignore=ignore, dirs_exist_ok=True)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file or a link, if there is one."""
    destination = inside(target, source)
    if not os.path.lexists(source) or os.path.lexists(destination):
        return
    destination.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, destination, follow_symlinks=False)


def inside(target: Path, path: Path) -> Path:
    """Return where a path is under the new root; /lib and its like are links into /usr there, too."""
    real = Path(os.path.realpath(path.parent)) / path.name
    return target / real.relative_to("/")


def libraries(target: Path, named: Sequence[Path]) -> list[Path]:
    """Return the shared libraries that the programs and libraries below a directory load, and those named."""
    programs = [path for path in target.rglob("*") if path.is_file() and not path.is_symlink() and is_elf(path)]
    output = subprocess.run(["ldd", *programs, *named], check=True, capture_output=True, text=True).stdout
    missing = [line.strip() for line in output.splitlines() if "not found" in line]
    if missing:
        sys.exit(f"the base image lacks libraries: {missing}")
    found = re.findall(r"(?:=> |^\s+)(/\S+) \(0x", output, re.MULTILINE)
    return [*map(Path, dict.fromkeys(found)), *named]


def named_libraries() -> list[Path]:
    """Return the libraries that are wanted by name."""
    cache = subprocess.run(["ldconfig", "-p"], check=True, capture_output=True, text=True).stdout
    found = dict(re.findall(r"^\s+(\S+) \(.*\) => (\S+)$", cache, re.MULTILINE))
    missing = [name for name in LIBRARIES if name not in found]
    if missing:
        sys.exit(f"the base image lacks libraries: {missing}")
    return [Path(found[name]) for name in LIBRARIES]


def is_elf(path: Path) -> bool:
    """Tell whether a file is a program or a shared library."""
    with path.open("rb") as stream:
        return stream.read(4) == b"\x7fELF"


def write_accounts(target: Path) -> None:
    """Give the one user a name, and make the directories that a container runtime mounts over."""
    (target / "etc/passwd").write_text("root:x:0:0:root:/root:/nonexistent\n" + USER)
    (target / "etc/group").write_text("root:x:0:\n" + GROUP)
    for name in MOUNT_POINTS:
        (target / name).mkdir()
    (target / "tmp").chmod(0o1777)


def write_packages(target: Path) -> None:
    """Tell scanners which Debian packages the files are of, and keep these packages' licenses."""
    directory = target / "var/lib/dpkg/status.d"
    directory.mkdir(parents=True)
    for package in sorted(owners(target)):
        name = package.partition(":")[0]
        status = subprocess.run(["dpkg-query", "--status", package], check=True, capture_output=True, text=True).stdout
        (directory / name).write_text(status)
        copy_chain(Path("/usr/share/doc", name, "copyright"), target)


def owners(target: Path) -> set[str]:
    """Return the Debian packages that own files below a directory."""
    files = (path for path in target.rglob("*") if path.parent != target and not path.is_dir())
    present = {f"/{path.relative_to(target)}" for path in files}
    lists = Path("/var/lib/dpkg/info").glob("*.list")
    return {listing.stem for listing in lists if present.intersection(merged(listing.read_text().splitlines()))}


def merged(paths: Iterable[str]) -> Iterator[str]:
    """Yield paths as they are on a system where /bin, /lib and their like are links into /usr."""
    aliases = tuple(f"{link}/" for link in Path("/").iterdir() if link.is_symlink())
    return (f"/usr{path}" if path.startswith(aliases) else path for path in paths)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
