"""What a person who waits wants to see: what happens now, and how long it took."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

BOLD, DIM, GREEN, RESET = ("\033[1m", "\033[2m", "\033[32m", "\033[0m") if sys.stdout.isatty() else ("", "", "", "")


@contextmanager
def step(title: str) -> Iterator[None]:
    """Announce a step, and tell its seconds when it is done."""
    say(f"{BOLD}▸ {title}{RESET}")
    start = time.monotonic()
    yield
    say(f"  {GREEN}✓{RESET} {DIM}{time.monotonic() - start:.1f} s{RESET}")


def say(text: str) -> None:
    """Print at once, also where the output is no terminal."""
    print(text, flush=True)


def indent(text: str) -> None:
    """Print the output of a program as part of a step."""
    for line in text.rstrip().splitlines():
        say(f"  {line}")
