"""hatchling's build hook that compiles modules with mypyc, so that a wheel has them beside their sources.

Off unless HATCH_BUILD_HOOK_ENABLE_CUSTOM=1: to install from sources takes no compiler. Python loads what is compiled
first. Needs a C compiler, Python's headers, and the libraries that the modules use, installed: what a class inherits
from decides how it is compiled.
"""

import contextlib
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = "serving"
"""The source root of what is compiled."""
GROUP = "onceserve"
"""What the file with the code is named after; the modules' own files only lead there."""
EXTRAS = ("serving", "redis", "postgresql")
MYPY = ("--config-file=", "--follow-imports=silent", "--ignore-missing-imports")


class Hook(BuildHookInterface):  # type: ignore[type-arg]
    """Takes `modules` from its table in pyproject.toml: paths below the source root."""

    _built: "tempfile.TemporaryDirectory[str]"

    def dependencies(self) -> list[str]:
        """Return what an isolated build has to install."""
        optional = self.metadata.core.optional_dependencies
        compiler: list[str] = self.metadata.config["dependency-groups"]["wheel"]
        return [*compiler, *(one for extra in EXTRAS for one in optional[extra])]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the modules and have the wheel take what comes of them."""
        self._built = tempfile.TemporaryDirectory()
        built = Path(self._built.name)
        compile_modules(Path(self.root) / SOURCES, self.config["modules"], built)
        build_data["force_include"] |= {str(path): str(path.relative_to(built)) for path in built.rglob("*.so")}
        build_data |= {"pure_python": False, "infer_tag": True}

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what the wheel has now."""
        self._built.cleanup()


def compile_modules(root: Path, modules: list[str], destination: Path) -> None:
    """Compile modules of a source root together, so that they call each other directly.

    Equal sources give equal files. Raises SystemExit, with what mypy or the compiler said, where that fails.
    """
    # An isolated build loads this file before it has them, to ask what it needs.
    from mypyc.build import mypycify  # noqa: PLC0415
    from setuptools import Distribution  # noqa: PLC0415

    # Tracebacks tell the paths that are given here.
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(root):
        extensions = mypycify(
            [*MYPY, f"--cache-dir={scratch}", *modules],
            opt_level="3",
            debug_level="0",
            group_name=GROUP,
            target_dir=scratch,
        )
        command = Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
        command.build_lib, command.build_temp = str(destination), scratch
        command.ensure_finalized()
        command.run()
