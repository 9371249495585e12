from pathlib import Path

import pytest

from devcluster import cgroups

HYBRID = """\
proc /proc proc rw 0 0
cgroup {root}/cpuset cgroup rw,relatime,cpuset 0 0
cgroup {root}/memory cgroup rw,relatime,memory 0 0
cgroup {root}/cpu cgroup rw,relatime,cpu,cpuacct 0 0
cgroup2 {root}/unified cgroup2 rw 0 0
"""


@pytest.fixture
def hybrid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory laid out as a machine on version 1 mounts its trees."""
    for name in ("cpuset", "memory", "cpu", "unified"):
        (tmp_path / name).mkdir()
    (tmp_path / "mounts").write_text(HYBRID.format(root=tmp_path))
    monkeypatch.setattr(cgroups, "MOUNTS", tmp_path / "mounts")
    monkeypatch.setattr(cgroups, "UNIFIED", tmp_path)
    return tmp_path


def test_every_mounted_tree_counts(hybrid: Path) -> None:
    assert [path.name for path in cgroups.hierarchies()] == ["cpu", "cpuset", "memory", "unified"]
    assert cgroups.hierarchies()[0].parent == hybrid


def test_a_missing_controller_is_named(hybrid: Path) -> None:
    assert hybrid.exists()
    assert cgroups.missing_controllers() == {"pids"}


def test_on_version_2_the_root_tells_the_controllers(hybrid: Path) -> None:
    (hybrid / "cgroup.controllers").write_text("cpuset cpu io pids\n")
    assert cgroups.missing_controllers() == {"memory"}


def test_a_cgroup_is_made_and_removed_in_every_tree(hybrid: Path) -> None:
    cgroups.create("/onceserve/dev/node-1")
    made = [tree / "onceserve" / "dev" / "node-1" for tree in cgroups.hierarchies()]
    assert [path for path in made if not path.is_dir()] == []
    (hybrid / "memory" / "onceserve" / "dev" / "node-1" / "kubepods").mkdir()
    cgroups.remove("/onceserve/dev")
    assert [path for path in cgroups.hierarchies() if (path / "onceserve" / "dev").exists()] == []
    cgroups.remove_if_empty("/onceserve")
    assert not (hybrid / "cpu" / "onceserve").exists()
