"""What people ask of a rollout, as the value of an annotation."""

from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Final

from onceserve_operator.api.v1alpha1 import GROUP

ANNOTATION: Final = f"{GROUP}/command"
"""Its value is a verb, then anything that makes it differ from the last one: each value is heeded once."""


LONGEST: Final = 256
"""Characters of a command."""


class Verb(StrEnum):
    """What can be asked."""

    PROMOTE = "promote"
    PROMOTE_FULL = "promote-full"
    PAUSE = "pause"
    ABORT = "abort"
    RETRY = "retry"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class Command:
    """A verb, and the revision that it names, if any."""

    verb: Verb
    words: tuple[str, ...] = ()


def kept(value: str) -> str:
    """Return what a value is known by once it was heeded: itself, or a digest where it is too long to be a command."""
    return value if len(value) <= LONGEST else f"sha256:{sha256(value.encode()).hexdigest()}"


def parse(value: str) -> Command | None:
    """Return the command, or None where the first word is no verb."""
    verb, *words = value.split() or [""]
    return Command(Verb(verb), tuple(words)) if verb in set(Verb) else None
