"""The phases of a server's life."""

from enum import IntEnum
from typing import Final


class Phase(IntEnum):
    """A server's phases; it only ever moves forward."""

    STARTING = 0
    LOADING = 1
    READY = 2
    DRAINING = 3
    STOPPED = 4


WORDS: Final = {
    Phase.STARTING: "the server is starting",
    Phase.LOADING: "the model is loading",
    Phase.READY: "ready",
    Phase.DRAINING: "the server is draining: it answers what still comes, and takes no new traffic",
    Phase.STOPPED: "the server has stopped",
}


class Lifecycle:
    """Where the server stands; the composition root moves it, everything else only looks."""

    def __init__(self) -> None:
        self._phase = Phase.STARTING

    @property
    def phase(self) -> Phase:
        """The current phase."""
        return self._phase

    def advance(self, phase: Phase) -> None:
        """Move forward; a late step back (a load that ends while draining) changes nothing."""
        self._phase = max(self._phase, phase)

    def describe(self) -> str:
        """Return the phase in words for a person."""
        return WORDS[self._phase]
