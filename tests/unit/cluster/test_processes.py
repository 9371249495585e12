import os
from pathlib import Path

import pytest

from devcluster.errors import StartError
from devcluster.processes import Identity, Process, Stat, kill


@pytest.fixture
def process(tmp_path: Path) -> Process:
    return Process("sleeper", tmp_path / "sleeper", tmp_path / "sleeper.log")


def own_stat() -> str:
    return Path("/proc/self/stat").read_text()


@pytest.mark.parametrize("command", ["sh", "a b", "(sd-pam)", "x) R 1 2"])
def test_a_command_may_hold_anything(command: str) -> None:
    line = f"42 ({command}) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1000 200"
    assert Stat.parse(line) == Stat(Identity(42, 987654), "S")


def test_a_recorded_process_that_lives_has_its_pid(process: Process) -> None:
    process.record.write_text(own_stat())
    assert process.pid == os.getpid()


def test_a_pid_that_is_used_again_is_not_the_process(process: Process) -> None:
    stat = Stat.parse(own_stat())
    process.record.write_text(own_stat().replace(f" {stat.identity.start_time} ", f" {stat.identity.start_time - 1} "))
    assert process.identity == Identity(os.getpid(), stat.identity.start_time - 1)
    assert process.pid is None


@pytest.mark.parametrize("content", ["", "12", "garbage"])
def test_half_a_record_is_none(process: Process, content: str) -> None:
    process.record.write_text(content)
    assert process.pid is None


def test_start_records_and_kill_forgets(process: Process) -> None:
    process.start(["sleep", "60"])
    assert process.is_running
    assert Path(f"/proc/{process.pid}/stat").exists()
    kill([process])
    assert not process.record.exists()


def test_kill_spares_a_process_that_took_the_pid(process: Process, tmp_path: Path) -> None:
    other = Process("other", tmp_path / "other", tmp_path / "other.log")
    other.start(["sleep", "60"])
    stat = other.record.read_text()
    start_time = Stat.parse(stat).identity.start_time
    process.record.write_text(stat.replace(f" {start_time} ", f" {start_time - 1} "))
    kill([process])
    assert other.is_running
    kill([other])


def test_a_process_that_ends_early_is_reported_with_command_and_log(process: Process) -> None:
    process.start(["sh", "-c", "echo cannot bind; exit 3"])
    with pytest.raises(StartError, match=r"(?s)sleeper ended.*sh -c echo cannot bind.*log.*cannot bind"):
        process.wait_ready(lambda: False, 5)


def test_a_process_that_takes_too_long_is_reported(process: Process) -> None:
    process.start(["sleep", "60"])
    with pytest.raises(StartError, match="sleeper was not ready after 0 s"):
        process.wait_ready(lambda: False, 0)
    kill([process])
