import os
import threading
from pathlib import Path

import pytest

from onceserve_serving import watch
from onceserve_serving.errors import OnceServeError
from onceserve_serving.watch import Mark, Watcher, mark_of
from support.secrets import MountedSecret


class Text:
    """Holds a file's text; refuses `bad`."""

    name = "text"

    def __init__(self, path: Path) -> None:
        self.paths = (path,)
        self.mark: Mark = None
        self.text = ""
        self.reload()

    def reload(self) -> None:
        self.mark = mark_of(self.paths)
        text = self.paths[0].read_text()
        if text == "bad":
            raise OnceServeError("it is bad")
        self.text = text


class Told:
    """What a watcher reported."""

    def __init__(self) -> None:
        self.results: list[tuple[str, str]] = []
        self.came = threading.Event()

    def __call__(self, what: str, result: str) -> None:
        self.results.append((what, result))
        self.came.set()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("one")
    return path


def test_a_change_is_taken_once_it_has_stood_still(file: Path) -> None:
    source, told = Text(file), Told()
    watcher = Watcher([source], told)
    watcher.look()
    file.write_text("twotwo")
    watcher.look()
    assert source.text == "one"
    file.write_text("three")
    watcher.look()
    assert source.text == "one"
    for _ in range(3):
        watcher.look()
    assert source.text == "three"
    assert told.results == [("text", "success")]


def test_a_bad_file_leaves_what_was_and_is_told_of_once(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    source, told = Text(file), Told()
    watcher = Watcher([source], told)
    file.write_text("bad")
    for _ in range(4):
        watcher.look()
    assert source.text == "one"
    assert told.results == [("text", "failure")]
    [record] = caplog.records
    assert record.levelname == "ERROR"
    assert record.getMessage().endswith("what was read before stays: it is bad")
    file.write_text("good")
    for _ in range(2):
        watcher.look()
    assert source.text == "good"


def test_a_file_with_the_same_size_and_time_is_another_file(file: Path) -> None:
    before, times = mark_of([file]), file.stat()
    other = file.with_name("other")
    other.write_text("uno")
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(file)
    assert mark_of([file]) != before


def test_what_is_not_there_is_a_state_as_any(file: Path) -> None:
    before = mark_of([file])
    file.unlink()
    gone = mark_of([file])
    assert gone == mark_of([file]) != before


def test_a_renewed_secret_is_seen_in_its_directory_and_through_a_file_in_it(tmp_path: Path) -> None:
    secret = MountedSecret(tmp_path)
    secret.write({"a": "1", "b": "2"})
    marks = [mark_of([secret.path]), mark_of([secret.path / "a"])]
    secret.write({"a": "1", "b": "3"})
    assert [mark_of([secret.path]), mark_of([secret.path / "a"])] != marks
    assert mark_of([secret.path]) != marks[0]


def test_it_watches_in_a_thread_until_it_is_stopped(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "INTERVAL", 0.005)
    source, told = Text(file), Told()
    watcher = Watcher([source], told)
    watcher.start()
    file.write_text("twotwo")
    assert told.came.wait(10)
    assert source.text == "twotwo"
    watcher.stop()


def test_nothing_to_watch_takes_no_thread() -> None:
    before = threading.active_count()
    Watcher([], Told()).start()
    assert threading.active_count() == before
