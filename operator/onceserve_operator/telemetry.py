"""What the operator tells of itself: metrics and logs."""

import json
import logging
import sys
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics


class Metrics:
    """The operator's metrics, in a registry of their own."""

    def __init__(self) -> None:
        # A second series for each counter, which tells only when the process started.
        disable_created_metrics()
        self.registry = CollectorRegistry()
        self.reconciles = Counter(
            "onceserve_operator_reconcile_total", "Passes, by result.", ["result"], registry=self.registry
        )
        self.reconcile_duration = Histogram(
            "onceserve_operator_reconcile_duration_seconds", "Duration of a pass.", registry=self.registry
        )
        self.api_requests = Counter(
            "onceserve_operator_api_requests_total",
            "Calls to the API server, by verb and kind.",
            ["verb", "kind"],
            registry=self.registry,
        )
        self.resyncs = Counter(
            "onceserve_operator_resync_total", "Full listings, by result.", ["result"], registry=self.registry
        )


class JsonFormatter(logging.Formatter):
    """One JSON object a line, for machines that collect logs."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def configure_logging(level: str) -> None:
    """Send all logs to standard error as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # One tells of every event that it passes on, the other of every probe.
    for talkative in ("kopf", "aiohttp.access"):
        logging.getLogger(talkative).setLevel(max(logging.WARNING, logging.getLogger().level))
