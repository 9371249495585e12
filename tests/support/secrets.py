"""A Secret as the kubelet mounts and renews it."""

import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path


class MountedSecret:
    """A directory whose files are links through `..data`, which one rename puts onto the next version."""

    def __init__(self, parent: Path) -> None:
        self.path = parent / "secret"
        self.path.mkdir()
        self._numbers = itertools.count()

    def write(self, files: Mapping[str, str | bytes]) -> None:
        """Put these files in the place of the present ones, all at once."""
        version = self.path / f"..2024_{next(self._numbers)}"
        version.mkdir()
        for name, content in files.items():
            (version / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        self._switch(version)
        for gone in [link for link in self.path.iterdir() if link.name[0] != "." and link.name not in files]:
            gone.unlink()
        for name in files:
            link = self.path / name
            if not link.is_symlink():
                link.symlink_to(Path("..data") / name)

    def _switch(self, version: Path) -> None:
        data, following = self.path / "..data", self.path / "..data_tmp"
        former = data.resolve() if data.is_symlink() else None
        following.symlink_to(version.name)
        following.replace(data)
        if former is not None:
            shutil.rmtree(former)
