"""Who leads: what a candidate may conclude from a lease. Time is its own clock; clocks are never compared."""

from dataclasses import dataclass, replace
from math import inf
from typing import Self


@dataclass(frozen=True, slots=True)
class Terms:
    """What all candidates agree on, in seconds."""

    duration: float = 8
    """A record that has not changed for so long may be taken."""
    margin: float = 1.5
    """A holder takes itself for one by so much less: clocks differ in rate, and calls take time to act."""
    renewal: float = 2
    """Between one renewal and the next."""
    retry: float = 1
    """Between looks at another's lease, and after what failed."""
    patience: float = 2.5
    """For one look or renewal."""


@dataclass(frozen=True, slots=True)
class Record:
    """A lease as it was read. An empty holder has released it; the version changes with every write that changes it."""

    holder: str
    version: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """What one candidate knows."""

    identity: str
    terms: Terms = Terms()
    record: Record | None = None
    """As last seen; None: there is none."""
    since: float | None = None
    """When it was first seen as it is; None: nothing has been seen yet."""
    until: float = -inf
    """Until when this candidate leads for certain."""

    def sees(self, record: Record | None, now: float) -> Self:
        """Return the candidate that has read the lease, by an answer that came `now` or before."""
        if self.since is None:
            # Who has only just come need not wait where nobody has led yet.
            return replace(self, record=record, since=-inf if record is None else now)
        until = self.until if record is None or record.holder == self.identity else -inf
        since = self.since if record == self.record else now
        return replace(self, record=record, since=since, until=until)

    def may_write(self, now: float) -> bool:
        """Say whether the lease may be taken or renewed; the write must fail where the record is another by then."""
        if self.since is None:
            return False
        if self.record is not None and self.record.holder in {"", self.identity}:
            return True
        return self.until > now or now - self.since >= self.terms.duration

    def wrote(self, record: Record, began: float, now: float) -> Self:
        """Return the candidate whose write, begun at `began`, was taken."""
        if record == self.record:
            # Nobody else saw a change.
            return self
        return replace(self, record=record, since=now, until=began + self.terms.duration - self.terms.margin)

    def resigns(self) -> Self:
        """Return the candidate that leads no more."""
        return replace(self, until=-inf)
