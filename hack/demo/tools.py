"""The programs by which the demo does what a person would do."""

import json
import subprocess
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Tools:
    """The programs that a person would use, bound to the cluster."""

    kubectl: list[str]
    helm: list[str]
    environment: dict[str, str]
    """What to export to use them by hand."""


def apply(tools: Tools, manifest: dict[str, Any]) -> None:
    """Have an object as it is given."""
    run([*tools.kubectl, "apply", "--server-side", "--field-manager=demo", "-f", "-"], stdin=json.dumps(manifest))


def kubectl(tools: Tools, *arguments: str) -> str:
    """Run kubectl; return its output."""
    return run([*tools.kubectl, *arguments])


def helm(tools: Tools, *arguments: str) -> str:
    """Run helm; return its output."""
    return run([*tools.helm, *arguments])


def run(command: list[str], stdin: str | None = None) -> str:
    """Run a program; return its output. Raises CalledProcessError with its complaint."""
    return subprocess.run(command, input=stdin, check=True, capture_output=True, text=True).stdout
