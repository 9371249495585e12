import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from images import compiled, sources


@pytest.mark.parametrize("module", sources.compiled_modules())
def test_nothing_is_awaited_while_an_exception_is_handled(module: str) -> None:
    """mypyc forgets which exception it is: a bare `raise` after it, and the end of `async with`, raise what is none."""
    for node in ast.walk(ast.parse((sources.ROOT / "serving" / module).read_text())):
        assert not isinstance(node, ast.AsyncWith | ast.AsyncFor), f"line {node.lineno}"
        handled = [node] if isinstance(node, ast.ExceptHandler) else node.finalbody if isinstance(node, ast.Try) else []
        assert not [f"line {each.lineno}" for part in handled for each in own(part) if isinstance(each, ast.Await)]


def own(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and what is below it, without the functions that are made there."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from own(child)


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
