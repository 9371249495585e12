from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Request:
    """One image to build."""

    target: str
    context: Path
    """What it is built from: a copy that nobody edits."""
    reference: str
    version: str
    base: str | None
    """Base image; None leaves it to the engine."""
    archive: Path
    """Where its OCI archive is to be."""
    log: Path
