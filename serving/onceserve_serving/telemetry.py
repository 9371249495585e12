"""Prometheus metrics of the server, in a registry of its own."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, disable_created_metrics

from onceserve_serving.tally import Count, Distribution, Distributions

HTTP: Final = "http"
GRPC: Final = "grpc"
"""Values of the `protocol` label."""

BUCKETS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)

ROWS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


# They would double the series for a time that no rule uses.
disable_created_metrics()


@dataclass(slots=True)
class Inflight:
    """Requests that have begun and not ended; a plain number, because a locked gauge would cost on every request."""

    count: int = 0


@dataclass
class Telemetry:
    """The server's metrics; one instance a process."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    inflight: Inflight = field(default_factory=Inflight)

    def __post_init__(self) -> None:
        registry = self.registry
        ProcessCollector(registry=registry)
        self._requests = Count("onceserve_requests", "Inference requests answered.", registry, ("code", "protocol"))
        # Turning numbers into labels anew for each request costs more than counting it.
        self._codes: dict[int, str] = {}
        self._durations = Distribution(
            "onceserve_request_duration_seconds",
            "Time from an inference request's headers to its answer.",
            registry,
            BUCKETS,
        )
        self._compute = Distribution(
            "onceserve_compute_duration_seconds", "Time inside the model in one run.", registry, BUCKETS
        )
        self._executions = Count("onceserve_executions", "Requests that went through the model.", registry)
        self._queue = Distribution(
            "onceserve_queue_duration_seconds",
            "Time from a request's arrival to the beginning of its run.",
            registry,
            BUCKETS,
        )
        self._batches = Distribution(
            "onceserve_batch_size", "Rows that went through the model in one run.", registry, ROWS
        )
        self._rejections = Count(
            "onceserve_rejected",
            "Requests that were not run: no room in the queue or to wait for the store, or their deadline had passed.",
            registry,
            ("reason",),
        )
        self._idempotent = Count(
            "onceserve_idempotency", "What became of requests with an idempotency key.", registry, ("outcome",)
        )
        self._store = Distributions(
            "onceserve_idempotency_store_duration_seconds",
            "Time of one call to the store of idempotency.",
            registry,
            BUCKETS,
            "operation",
        )
        self._queued = Gauge("onceserve_queued_requests", "Requests that wait for their turn.", registry=registry)
        self._aside = Gauge(
            "onceserve_aside_requests",
            "Requests that a slow store keeps waiting and that have given their place to others.",
            registry=registry,
        )
        self._info = Gauge(
            "onceserve_model_info", "The model served; always 1.", ("model", "version", "sha256"), registry=registry
        )
        self._reloads = Counter(
            "onceserve_reloads",
            "Readings of changed API keys or certificates; after one that failed the former stay in force.",
            ("what", "result"),
            registry=registry,
        )
        self._load = Gauge("onceserve_model_load_seconds", "Time to fetch, verify and load.", registry=registry)
        self._draining = Gauge("onceserve_draining", "1 while the server drains.", registry=registry)
        Gauge("onceserve_inflight_requests", "Inference requests begun and not ended.", registry=registry).set_function(
            lambda: self.inflight.count
        )

    def answered(self, code: int, seconds: float, protocol: str = HTTP) -> None:
        """Count one answered inference request; `code` is HTTP's status, also of what ended the same way over gRPC."""
        text = self._codes.get(code)
        if text is None:
            text = self._codes[code] = str(code)
        self._requests.inc(text, protocol)
        self._durations.observe(seconds)

    def began(self, seconds: float) -> None:
        """Count a request whose run begins after it waited so long."""
        self._queue.observe(seconds)

    def executed(self, seconds: float, *, rows: int, requests: int) -> None:
        """Count one run of the model: its rows, and the requests that it answers."""
        self._executions.inc(by=requests)
        self._compute.observe(seconds)
        self._batches.observe(rows)

    def rejected(self, reason: str) -> None:
        """Count a request that was not run, because there was no room for it or its deadline had passed."""
        self._rejections.inc(reason)

    def idempotent(self, outcome: str) -> None:
        """Count what became of a request with a key.

        It is first, replayed, coalesced, in_progress, mismatch, taken_over, lost or bypassed.
        """
        self._idempotent.inc(outcome)

    def store_answered(self, operation: str, seconds: float) -> None:
        """Count one call to the store of idempotency."""
        self._store.observe(operation, seconds)

    def watch_queue(self, queued: Callable[[], float]) -> None:
        """Tell how many requests wait by asking this function."""
        self._queued.set_function(queued)

    def watch_aside(self, aside: Callable[[], float]) -> None:
        """Tell how many requests have given their place to others by asking this function."""
        self._aside.set_function(aside)

    def loaded(self, model: str, version: str, sha256: str, seconds: float) -> None:
        """Record which model is served and how long it took to get it."""
        self._info.labels(model, version, sha256).set(1)
        self._load.set(seconds)

    def reloaded(self, what: str, result: str) -> None:
        """Count one reading of changed API keys or certificates."""
        self._reloads.labels(what, result).inc()

    def draining(self) -> None:
        """Record that the server drains."""
        self._draining.set(1)
