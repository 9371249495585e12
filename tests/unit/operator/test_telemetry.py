import json
import logging
from collections.abc import Iterator

import pytest

from onceserve_operator import telemetry

RETRIED = "Request attempt #1/9 failed; will retry: GET https://127.0.0.1/apis -> APITooManyRequestsError()"
GIVEN_UP = "Request attempt #9/9 failed; escalating: GET https://127.0.0.1/apis -> APITooManyRequestsError()"


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root, kopf = logging.getLogger(), logging.getLogger("kopf")
    handlers, levels = root.handlers[:], (root.level, kopf.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    kopf.setLevel(levels[1])


@pytest.mark.parametrize(
    ("logger", "message", "level"),
    [
        ("kopf._cogs.clients.watching", RETRIED, "WARNING"),
        ("kopf._cogs.clients.watching", GIVEN_UP, "ERROR"),
        ("onceserve_operator.reconciler", RETRIED, "ERROR"),
    ],
)
def test_what_is_tried_again_is_no_error_yet(
    logger: str, message: str, level: str, capsys: pytest.CaptureFixture[str]
) -> None:
    telemetry.configure_logging("info")
    logging.getLogger(logger).error(message)
    [line] = capsys.readouterr().err.splitlines()
    assert json.loads(line).items() >= {"level": level, "logger": logger, "message": message}.items()
