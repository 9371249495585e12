import os
from pathlib import Path

import pytest

from onceserve_serving import cpus


@pytest.fixture(autouse=True)
def sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("quotas", "expected"),
    [
        ({}, 16),
        ({"cpu.max": "max 100000"}, 16),
        ({"pod/cpu.max": "150000 100000"}, 2),
        ({"pod/cpu.max": "50000 100000"}, 1),
        ({"pod/cpu.max": "max 100000", "cpu.max": "300000 100000"}, 3),
        ({"pod/cpu.max": "400000 100000", "cpu.max": "300000 100000"}, 3),
        ({"pod/cpu.max": "9900000 100000"}, 16),
    ],
)
def test_the_smallest_quota_of_the_unified_hierarchy_holds(
    tmp_path: Path, quotas: dict[str, str], expected: int
) -> None:
    write(tmp_path / "own", "0::/pod\n")
    for name, text in quotas.items():
        write(tmp_path / "fs" / name, text)
    assert cpus.limit(tmp_path / "own", tmp_path / "fs") == expected


@pytest.mark.parametrize(
    ("group", "quota", "expected"), [("cpu", "250000", 3), ("cpu/pod", "200000", 2), ("cpu", "-1", 16)]
)
def test_the_quota_of_the_first_hierarchy_holds(tmp_path: Path, group: str, quota: str, expected: int) -> None:
    write(tmp_path / "own", "4:memory:/pod\n3:cpu,cpuacct:/pod\n")
    write(tmp_path / "fs" / group / "cpu.cfs_quota_us", quota)
    write(tmp_path / "fs" / group / "cpu.cfs_period_us", "100000")
    assert cpus.limit(tmp_path / "own", tmp_path / "fs") == expected


def test_where_nothing_is_told_the_affinity_holds(tmp_path: Path) -> None:
    assert cpus.limit(tmp_path / "none", tmp_path) == 16
