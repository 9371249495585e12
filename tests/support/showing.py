"""Changes under a load that never pauses: how many calls, how many failed, how fast before, during and after."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from support.changing import Changes
from support.loading import Load, Window
from support.watching import History

CALLS = int(os.environ.get("ROLLOUT_CALLS", "5000"))
"""Calls that meet each kind of change at least; it is made again until there are so many."""
CLIENTS = ("closed,new,2", "closed,keep-alive,2", "open,new,16,100", "open,keep-alive,16,100", "open,keep-alive,12,4")
"""The last ones keep a connection that they use every three seconds."""
QUIET = 2.0
"""Seconds that are looked at before and after a change."""
_HEAD = """\
| change | times, seconds each | calls | failed | before: answers/s, p50, p99 | during | after |
|---|---|---|---|---|---|---|"""


@dataclass
class Outcome:
    """What clients saw of one kind of change, however often it was made."""

    name: str
    times: int = 0
    before: Window = field(default_factory=Window)
    during: Window = field(default_factory=Window)
    after: Window = field(default_factory=Window)

    @property
    def calls(self) -> int:
        """All calls."""
        return sum(window.calls for window in (self.before, self.during, self.after))

    def row(self) -> str:
        """Return the figures as a row of the table."""
        windows = (self.before, self.during, self.after)
        figures = (
            f"{w.throughput:.0f}, {1e3 * w.latency(0.5):.1f} ms, {1e3 * w.latency(0.99):.0f} ms" for w in windows
        )
        times = f"{self.times} × {self.during.seconds / max(self.times, 1):.0f}"
        failed = sum(window.failed for window in windows)
        return f"| {' | '.join((self.name, times, f'{self.calls:,}', str(failed), *figures))} |"


class Stage:
    """Where changes are made while clients look on."""

    def __init__(self, changes: Changes, load: Load, history: History) -> None:
        self._changes = changes
        self._load = load
        self._history = history
        self._outcomes: list[Outcome] = []
        self._never: set[str] = set()

    def show(self, name: str, change: Callable[[], None], *, least: int = 3) -> None:
        """Make a change until there were calls enough, with at least so many pods under traffic at all times."""
        outcome = Outcome(name)
        self._outcomes.append(outcome)
        while outcome.calls < CALLS:
            self._history.taken()
            self._load.mark()
            time.sleep(QUIET)
            outcome.before.add(self._checked())
            change()
            self.look()
            time.sleep(QUIET)
            outcome.after.add(self._checked())
            outcome.times += 1
            moments = self._history.taken()
            assert min(moment.ready for moment in moments) >= least, moments
        # At once: who waits for a long run sees it go on, and has what was shown if it is cut short.
        print("", *([_HEAD] if self._outcomes == [outcome] else []), outcome.row(), sep="\n", flush=True)

    def look(self) -> Window:
        """Return what clients have seen of the change since they were last looked at."""
        seen = self._checked()
        self._outcomes[-1].during.add(seen)
        return seen

    def refuse(self, revision: str) -> None:
        """Have no client ever be answered by a revision."""
        self._never.add(revision)

    def _checked(self) -> Window:
        """Return what clients have seen since the last mark: no failure, and only right answers."""
        seen = self._load.mark()
        assert not seen.failed, seen.failures[:20]
        wrong = [body for body in seen.bodies if not self._changes.is_right(body)]
        assert not wrong, wrong
        assert not self._never & seen.revisions.keys()
        return seen
