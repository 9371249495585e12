import operator
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_source_root_does_not_shadow_the_standard_library() -> None:
    assert operator.__file__ is not None
    assert Path(operator.__file__).is_relative_to(sysconfig.get_path("stdlib"))
    assert not (ROOT / "operator" / "__init__.py").exists()
    assert not (ROOT / "serving" / "__init__.py").exists()
