"""Files that change while the server runs: mounted Secrets, renewed certificates."""

import logging
import os
import threading
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from onceserve_serving.errors import OnceServeError

INTERVAL: Final = 1.0
"""Seconds between two looks: a few stat calls each, and a change holds within two of them."""

Mark: TypeAlias = Hashable
"""What tells one state of some files from another."""

Reloaded: TypeAlias = Callable[[str, str], None]
"""Told what was read again, and the result: `success` or `failure`."""

log = logging.getLogger(__name__)


class Watched(Protocol):
    """What is read from files and can be read again."""

    @property
    def name(self) -> str:
        """What the files hold, for the log and the metric."""

    @property
    def paths(self) -> Sequence[Path]:
        """The files and directories."""

    @property
    def mark(self) -> Mark:
        """The files' state just before they were last read."""

    def reload(self) -> None:
        """Read the files and take what they hold; raise OnceServeError, and keep what was, if it is of no use."""


def mark_of(paths: Iterable[Path]) -> Mark:
    """Return the state of files and of directories' entries; never raises."""
    return tuple(_mark(path) for path in paths)


def _mark(path: Path) -> Mark:
    try:
        own = _stat(path)
        if not path.is_dir():
            return own
        return own, tuple((entry.name, _stat(entry)) for entry in sorted(path.iterdir()))
    except OSError as error:
        return error.errno


def _stat(path: Path) -> Mark:
    # Followed links: a mounted Secret changes by one link that is renamed into place, and gives every file a new inode.
    found: os.stat_result = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class Watcher:
    """Reads sources again when their files have changed.

    It is a thread of its own: a file system that hangs must hold up neither the event loop nor an inference.
    """

    def __init__(self, sources: Sequence[Watched], reloaded: Reloaded) -> None:
        self._sources = sources
        self._reloaded = reloaded
        self._seen = [source.mark for source in sources]
        self._stopping = threading.Event()

    def start(self) -> None:
        """Watch until `stop`; nothing to watch costs nothing."""
        if self._sources:
            threading.Thread(target=self._watch, name="watcher", daemon=True).start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopping.set()

    def look(self) -> None:
        """Look once, and read again what has changed and has then stood still since the last look.

        Who writes a file in place is not read halfway through it.
        """
        for index, source in enumerate(self._sources):
            mark = mark_of(source.paths)
            if mark == self._seen[index] and mark != source.mark:
                self._reload(source)
            self._seen[index] = mark

    def _watch(self) -> None:
        while not self._stopping.wait(INTERVAL):
            self.look()

    def _reload(self, source: Watched) -> None:
        try:
            source.reload()
        except OnceServeError as error:
            log.error("%s: the files changed and are of no use; what was read before stays: %s", source.name, error)  # noqa: TRY400
            self._reloaded(source.name, "failure")
        else:
            log.info("%s: read again", source.name)
            self._reloaded(source.name, "success")
