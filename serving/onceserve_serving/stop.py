"""Signals that ask the server to stop."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Iterator
from typing import Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

log = logging.getLogger(__name__)


class StopSignals:
    """SIGTERM and SIGINT: the first asks to drain, the second to stop now."""

    def __init__(self) -> None:
        self.drain = asyncio.Event()
        self.now = asyncio.Event()

    @contextlib.contextmanager
    def handled(self) -> Iterator["StopSignals"]:
        """Handle the signals within the block."""
        loop = asyncio.get_running_loop()
        for one in SIGNALS:
            loop.add_signal_handler(one, self.receive, one)
        try:
            yield self
        finally:
            for one in SIGNALS:
                loop.remove_signal_handler(one)

    def receive(self, number: signal.Signals) -> None:
        """Take one signal."""
        log.info("%s: %s", number.name, "stopping now" if self.drain.is_set() else "draining")
        (self.now if self.drain.is_set() else self.drain).set()
