"""Whether a file lies where a lock is a lock and a flush is a flush."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from onceserve_serving.errors import InvalidSettingsError

MOUNTINFO: Final = Path("/proc/self/mountinfo")
REMOTE: Final = re.compile(r"nfs4?|cifs|smb3?|smbfs|9p|afs|ceph|lustre|gfs2?|ocfs2|beegfs|glusterfs|virtiofs|fuse\..*")
FORGETFUL: Final = ("tmpfs", "ramfs")


def check(path: Path) -> Sequence[str]:
    """Return warnings; raises InvalidSettingsError for a file that cannot be there, or whose file system is remote."""
    if not path.parent.is_dir():
        raise InvalidSettingsError(f"the store sqlite {path}: {path.parent} is no directory")
    if path.is_dir():
        raise InvalidSettingsError(f"the store sqlite {path}: this is a directory; a file was expected")
    kind = file_system(path.parent.resolve(), MOUNTINFO.read_text())
    if REMOTE.fullmatch(kind):
        raise InvalidSettingsError(
            f"the store sqlite {path}: it lies on {kind}, where SQLite's locks do not hold; give a local disk, or "
            "redis:// or postgresql:// for several machines"
        )
    return [f"the store sqlite {path}: it lies on {kind}, which a restart of the machine clears"] * (kind in FORGETFUL)


def file_system(directory: Path, mountinfo: str) -> str:
    """Return the type of the file system that a directory is on, given what the kernel lists (proc(5))."""
    kinds = {}
    for line in mountinfo.splitlines():
        mount, _, source = line.partition(" - ")
        kinds[_unescaped(mount.split()[4])] = source.split()[0]
    return kinds[max((at for at in kinds if directory.is_relative_to(at)), key=lambda at: len(Path(at).parts))]


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), path)
