"""Spans between moments."""

from datetime import datetime, timedelta


def elapsed(since: datetime | None, now: datetime) -> float:
    """Return the seconds since a moment; none where a clock that was set back has put it in the future."""
    return max(0.0, (now - since) / timedelta(seconds=1)) if since else 0.0
