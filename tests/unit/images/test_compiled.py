import os
from pathlib import Path

from images import compiled


def test_the_trees_used_last_are_kept_and_the_lock_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    os.utime(tmp_path / "lock", (0, 0))
    (tmp_path / ".draft").mkdir()
    names = [f"{number:016x}" for number in range(compiled.KEPT + 2)]
    for age, name in enumerate(names):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.log").touch()
        os.utime(tmp_path / name, (1_000 - age, 1_000 - age))
    compiled._prune(tmp_path)
    kept = names[: compiled.KEPT]
    assert {path.name for path in tmp_path.iterdir()} == {"lock", ".draft", *kept, *(f"{name}.log" for name in kept)}
