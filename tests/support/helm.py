"""The chart, rendered and installed by the real Helm."""

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "charts" / "onceserve"


class HelmError(Exception):
    """Helm refused."""


@dataclass(frozen=True, slots=True)
class Helm:
    """Helm with a home of its own, for one cluster or none."""

    binary: Path
    home: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: str | Path, values: dict[str, Any] | None = None) -> str:
        """Run Helm; return what it says, raise what it complains about."""
        homes = {f"HELM_{kind}_HOME": str(self.home / kind) for kind in ("CACHE", "CONFIG", "DATA")}
        given = ["--values", "-"] if values is not None else []
        result = subprocess.run(
            [self.binary, *arguments, *given],
            input=yaml.safe_dump(values),
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **homes, **self.environment},
        )
        if result.returncode != 0:
            raise HelmError(result.stdout + result.stderr)
        return result.stdout

    def template(self, values: dict[str, Any], *flags: str, release: str = "onceserve") -> str:
        """Return the rendered manifests."""
        return self("template", release, CHART, "--namespace", "onceserve", *flags, values=values)

    def manifests(self, values: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the rendered manifests as data."""
        return [manifest for manifest in yaml.safe_load_all(self.template(values)) if manifest]
