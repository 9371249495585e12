"""What the operator tells of itself: metrics and logs."""

import json
import logging
import sys
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from onceserve_operator.domain import Key

_LOG = logging.getLogger(__name__)


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
        self.leader = Gauge(
            "onceserve_operator_leader", "1 while this process leads, 0 while it stands by.", registry=self.registry
        )
        self._reachable = Gauge(
            "onceserve_operator_api_reachable",
            "1 where the API server answered the last call, 0 where it did not.",
            registry=self.registry,
        )
        self._phase = Gauge(
            "onceserve_operator_rollout_phase",
            "1 for the phase that the rollout of a ModelDeployment is in.",
            ["namespace", "name", "phase"],
            registry=self.registry,
        )
        self._desired = Gauge(
            "onceserve_operator_desired_replicas",
            "Pods that a ModelDeployment asks for.",
            ["namespace", "name"],
            registry=self.registry,
        )
        self.transitions = Counter(
            "onceserve_operator_rollout_transitions_total",
            "Phases entered, of all ModelDeployments.",
            ["phase"],
            registry=self.registry,
        )
        self.scalings = Counter(
            "onceserve_operator_scalings_total",
            "Changes of the number of pods by autoscaling, up or down.",
            ["direction"],
            registry=self.registry,
        )
        self._phases: dict[Key, str] = {}
        self._answers: bool | None = None

    def answered(self, silence: str | None) -> None:
        """Note that the API server answered a call, or how it did not; the log tells where that changes."""
        answers = silence is None
        if answers != self._answers:
            if not answers:
                _LOG.warning("the API server does not answer: %s", silence)
            elif self._answers is not None:
                _LOG.info("the API server answers again")
            self._answers = answers
            self._reachable.set(answers)

    def stands(self, key: Key, phase: str, replicas: int) -> None:
        """Note where the rollout of a ModelDeployment stands, and how many pods it asks for."""
        before = self._phases.get(key)
        if before != phase:
            self.gone(key)
            self._phases[key] = phase
            self._phase.labels(key.namespace, key.name, phase).set(1)
            self.transitions.labels(phase).inc()
        self._desired.labels(key.namespace, key.name).set(replicas)

    def gone(self, key: Key) -> None:
        """Tell nothing more of a ModelDeployment."""
        phase = self._phases.pop(key, None)
        if phase is not None:
            self._phase.remove(key.namespace, key.name, phase)
            self._desired.remove(key.namespace, key.name)


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
    handler.addFilter(_calm)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # One tells of every event that it passes on, the other of every probe.
    for talkative in ("kopf", "aiohttp.access"):
        logging.getLogger(talkative).setLevel(max(logging.WARNING, logging.getLogger().level))


def _calm(record: logging.LogRecord) -> bool:
    """Have what kopf tries again be a warning: it tells of an error once it gives up."""
    if record.levelno == logging.ERROR and record.name.startswith("kopf.") and "; will retry: " in record.getMessage():
        record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
    return True
