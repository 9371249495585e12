from pathlib import Path

import pytest

from onceserve_serving.errors import InvalidSettingsError
from onceserve_serving.idempotency import mounts

MOUNTS = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:25 / /data rw shared:5 master:2 - nfs4 server:/export rw
31 30 0:26 / /data/local rw - xfs /dev/vdb rw
32 22 0:27 / /with\040space rw - cifs //server/share rw
33 22 0:28 / /tmp rw - tmpfs tmpfs rw
""".strip()


@pytest.mark.parametrize(
    ("directory", "kind"),
    [
        ("/", "ext4"),
        ("/var/lib", "ext4"),
        ("/data", "nfs4"),
        ("/data/more", "nfs4"),
        ("/data/local/deep", "xfs"),
        ("/database", "ext4"),
        ("/with space/x", "cifs"),
    ],
)
def test_the_file_system_is_that_of_the_nearest_mount(directory: str, kind: str) -> None:
    assert mounts.file_system(Path(directory), MOUNTS) == kind


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.s3fs", "ceph", "9p"])
def test_what_is_remote_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    listed = tmp_path / "mountinfo"
    listed.write_text(f"22 1 0:1 / / rw - {kind} it rw\n")
    monkeypatch.setattr(mounts, "MOUNTINFO", listed)
    with pytest.raises(InvalidSettingsError, match=f"it lies on {kind}, where SQLite's locks do not hold"):
        mounts.check(tmp_path / "store.db")


def test_what_a_restart_clears_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = tmp_path / "mountinfo"
    listed.write_text("22 1 0:1 / / rw - tmpfs it rw\n")
    monkeypatch.setattr(mounts, "MOUNTINFO", listed)
    [warning] = mounts.check(tmp_path / "store.db")
    assert "it lies on tmpfs, which a restart of the machine clears" in warning
