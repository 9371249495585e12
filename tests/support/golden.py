"""Golden files: what came out when a person last looked and agreed."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Golden:
    """Compares with golden files, or with `--update-golden` writes them."""

    update: bool

    def check(self, path: Path, actual: str) -> None:
        """Fail where the file does not say what came out."""
        if self.update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(actual)
        expected = path.read_text() if path.exists() else ""
        assert actual == expected, f"{path.name} differs; if this is right, run pytest with --update-golden and commit"
