"""Phases of a rollout, and the ways between them: the one table that the machine, its tests and its picture share."""

from enum import StrEnum
from typing import Final


class Phase(StrEnum):
    """Where a rollout stands."""

    STABLE = "Stable"
    PREPARING = "Preparing"
    VERIFYING = "Verifying"
    SHIFTING = "Shifting"
    PAUSED = "Paused"
    FINALIZING = "Finalizing"
    ABORTING = "Aborting"
    ABORTED = "Aborted"


_S, _P, _V, _H, _W, _F, _A, _X = Phase

TRANSITIONS: Final = {
    (_S, _P): "another revision is wanted",
    (_P, _V): "its first pods are ready",
    (_P, _P): "superseded: nothing has traffic yet that must be given back",
    (_V, _P): "superseded: nothing has traffic yet that must be given back",
    (_V, _H): "they are verified",
    (_V, _S): "they are verified, and there is no former revision; or no pod is wanted",
    (_H, _H): "a step is done",
    (_H, _W): "a pause is due, or somebody pauses",
    (_H, _P): "superseded: nothing has traffic yet that must be given back",
    (_W, _H): "its time is up, or somebody promotes",
    (_H, _F): "the last step is done",
    (_F, _S): "the old pods are gone, or no pod is wanted",
    (_F, _P): "superseded: what has all traffic is the one to return to",
    (_P, _W): "somebody pauses",
    (_V, _W): "somebody pauses",
    (_W, _P): "somebody promotes, or it is superseded",
    (_W, _V): "somebody promotes",
    (_P, _A): "it failed, or is no longer wanted",
    (_V, _A): "it failed, or is no longer wanted",
    (_H, _A): "it failed, is superseded or no longer wanted",
    (_W, _A): "it failed, is superseded or no longer wanted",
    (_F, _A): "it failed, or is no longer wanted",
    (_A, _S): "the old revision is back, as the spec wants it, or no pod is wanted",
    (_A, _X): "the old revision is back",
    (_A, _P): "the old revision is back, and another one is wanted",
    (_X, _P): "the spec asks for another one, or somebody retries",
    (_X, _S): "the spec asks for what serves",
    (_P, _X): "it failed, and there is nothing to go back to",
    (_V, _X): "it failed, and there is nothing to go back to",
    (_F, _X): "somebody went back to it, and the old pods are gone",
    (_W, _X): "it failed, and there is nothing to go back to",
    (_S, _X): "somebody goes back to what served before",
    (_P, _S): "no pod is wanted, or what served is no longer known",
    (_H, _S): "no pod is wanted, or what served is no longer known",
    (_W, _S): "no pod is wanted, or what served is no longer known",
}
"""Why the machine goes from one phase to another; it never goes another way."""

ACTIVE: Final = frozenset({_P, _V, _H, _W, _F})
"""A revision is on its way."""

COMING_UP: Final = frozenset({_P, _V})
"""It is to get no traffic yet."""

TIMED: Final = frozenset({_P, _V, _H})
"""It must make progress by itself."""
