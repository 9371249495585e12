import shutil
import threading
from pathlib import Path

from devcluster.files import locked, write_atomically


def test_a_write_replaces_all_of_a_file_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_atomically(path, "a longer first content")
    write_atomically(path, b"second", mode=0o600)
    assert path.read_bytes() == b"second"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_lock_survives_the_removal_of_its_directory(tmp_path: Path) -> None:
    lock = tmp_path / "cluster" / "lock"
    order = []

    def second() -> None:
        with locked(lock):
            order.append("second")

    with locked(lock):
        waiter = threading.Thread(target=second)
        waiter.start()
        shutil.rmtree(lock.parent)
        order.append("first")
    waiter.join()
    # With the directory gone both may be inside: what one of them removed is no concern of the other.
    assert sorted(order) == ["first", "second"]
    assert lock.exists()
