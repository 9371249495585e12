"""Prometheus metrics of the server, in a registry of its own."""

from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

HTTP: Final = "http"
"""Value of the `protocol` label for requests over HTTP."""

BUCKETS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)


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
        self._requests = Counter(
            "onceserve_requests", "Inference requests answered.", ("code", "protocol"), registry=registry
        )
        # A label look-up takes a lock and a dictionary of tuples: once per code, not once per request.
        self._by_code: dict[int, Counter] = {}
        self._durations = Histogram(
            "onceserve_request_duration_seconds",
            "Time from an inference request's headers to its answer.",
            buckets=BUCKETS,
            registry=registry,
        )
        self._compute = Histogram(
            "onceserve_compute_duration_seconds", "Time inside the model.", buckets=BUCKETS, registry=registry
        )
        self._executions = Counter("onceserve_executions", "Runs of the model for requests.", registry=registry)
        self._info = Gauge(
            "onceserve_model_info", "The model served; always 1.", ("model", "version", "sha256"), registry=registry
        )
        self._load = Gauge("onceserve_model_load_seconds", "Time to fetch, verify and load.", registry=registry)
        self._draining = Gauge("onceserve_draining", "1 while the server drains.", registry=registry)
        Gauge("onceserve_inflight_requests", "Inference requests begun and not ended.", registry=registry).set_function(
            lambda: self.inflight.count
        )

    def answered(self, code: int, seconds: float) -> None:
        """Count one answered inference request."""
        child = self._by_code.get(code)
        if child is None:
            child = self._by_code[code] = self._requests.labels(str(code), HTTP)
        child.inc()
        self._durations.observe(seconds)

    def executed(self, seconds: float) -> None:
        """Count one run of the model for a request."""
        self._executions.inc()
        self._compute.observe(seconds)

    def loaded(self, model: str, version: str, sha256: str, seconds: float) -> None:
        """Record which model is served and how long it took to get it."""
        self._info.labels(model, version, sha256).set(1)
        self._load.set(seconds)

    def draining(self) -> None:
        """Record that the server drains."""
        self._draining.set(1)
