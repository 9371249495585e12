"""Ever longer delays between one try and the next."""

from collections.abc import Iterator


def backoff(first: float = 0.5, last: float = 60.0) -> Iterator[float]:
    """Yield the delays before each further try, in seconds: each twice the one before, and `last` at most."""
    delay = first
    while True:
        yield delay
        delay = min(2 * delay, last)
