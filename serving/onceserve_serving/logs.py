"""Structured logs: one JSON object a line on standard error."""

import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final, Protocol

import orjson

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class Correlation(Protocol):
    """By what the lines about one request are found; asked only when a line is written."""

    @property
    def request_id(self) -> str:
        """The request's id."""

    @property
    def trace_id(self) -> str:
        """The id of the trace that the request belongs to, as 32 hex digits; empty without one."""


request: Final[ContextVar[Correlation | None]] = ContextVar("request", default=None)
"""The request that this task answers."""


class JsonFormatter(logging.Formatter):
    """Writes a record, its `extra` fields and the request that it is about as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line of JSON."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **correlated(),
            **{key: value for key, value in vars(record).items() if key not in _STANDARD},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class TextFormatter(logging.Formatter):
    """Writes a record for a person."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Return the line without the exception's stack."""
        ids = correlated()
        return super().formatMessage(record) + (f" [{ids['request_id']}]" if ids else "")


def correlated() -> dict[str, str]:
    """Return the ids of the request that this task answers; empty outside one."""
    current = request.get()
    if current is None:
        return {}
    ids = {"request_id": current.request_id, "trace_id": current.trace_id}
    return {name: value for name, value in ids.items() if value}


def configure(level: str, form: str) -> None:
    """Send all logs to standard error; `form` is auto, json or text."""
    text = form == "text" or (form == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter() if text else JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # httpx logs every URL with its query, where signatures are, and HTTP clients at debug the headers, where keys are;
    # uvicorn repeats what we log of start and stop.
    for noisy in ("httpx", "httpcore", "hpack", "urllib3", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
