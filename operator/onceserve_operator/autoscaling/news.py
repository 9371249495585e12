"""When a pass should look at what was decided."""

import math

from onceserve_operator.backoff import backoff
from onceserve_operator.domain import Scaling


class News:
    """Says of each decision about one ModelDeployment whether a pass should look now.

    At once at what is new. What was told and is not done, as its write is refused or fails, is told again after ever
    longer delays, whatever else is decided meanwhile; only more pods than were ever asked for do not wait.
    """

    def __init__(self) -> None:
        self._standing: tuple[bool | None, str, str] | None = None
        self._of = self._told = self._most = -1
        self._due = -math.inf
        self._delays = backoff()

    def are_in(self, scaling: Scaling, now: float) -> bool:
        """Take a decision, and say whether it is to be told."""
        before, self._standing = self._standing, (scaling.active, scaling.reason, scaling.message)
        if scaling.of != self._of:
            self._of = self._told = self._most = scaling.of
            self._due, self._delays = -math.inf, backoff()
        # What was told may also have to be taken back.
        undone = not scaling.of == self._told == scaling.replicas
        if undone and (scaling.replicas > self._most or now >= self._due):
            self._told, self._most = scaling.replicas, max(self._most, scaling.replicas)
            self._due = now + next(self._delays)
            return True
        return before != self._standing
