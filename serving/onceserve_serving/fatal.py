"""How the server ends when it cannot serve: exit codes and the termination message."""

import logging
from pathlib import Path
from typing import Final

from onceserve_contract.termination import Failure, encode

EXIT_SETTINGS: Final = 2
EXIT_MODEL: Final = 3

log = logging.getLogger(__name__)


def report(failure: Failure, path: Path | None) -> None:
    """Leave the reason of a fatal start in the log and, for the kubelet, in the termination log."""
    log.error("cannot serve: %s", failure.message, extra={"reason": failure.reason.value})
    leave(failure, path)


def leave(failure: Failure, path: Path | None) -> None:
    """Write the termination message; a file that cannot be written must not hide the failure itself."""
    if path is None:
        return
    try:
        path.write_text(encode(failure), encoding="utf-8")
    except OSError as error:
        log.warning("cannot write the termination message: %s", error)
