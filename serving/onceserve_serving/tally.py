"""Counts without locks, for what is counted on every request.

prometheus_client's own metrics take a lock for each bucket, which together cost more than a small model. These are only
ever touched by the event loop.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from math import inf

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Count(Collector):
    """A counter; `labels` are the names of the labels of which `inc` gets the values."""

    def __init__(self, name: str, documentation: str, registry: CollectorRegistry, labels: Sequence[str] = ()) -> None:
        self._described = (name, documentation)
        self._labels = labels
        self._values: dict[tuple[str, ...], int] = {} if labels else {(): 0}
        registry.register(self)

    def inc(self, *labels: str, by: int = 1) -> None:
        """Count some more."""
        self._values[labels] = self._values.get(labels, 0) + by

    def collect(self) -> Iterable[Metric]:
        """Return what was counted."""
        family = CounterMetricFamily(*self._described, labels=self._labels)
        for labels, value in self._values.items():
            family.add_metric(labels, value)
        return [family]


class Series:
    """The values of a histogram; a value is in the first bucket whose bound it does not exceed."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, int]]:
        """Return each bucket's bound and how many values do not exceed it."""
        bounds = [floatToGoString(bound) for bound in (*self._bounds, inf)]
        return list(zip(bounds, accumulate(self._counts), strict=True))


class Distribution(Series, Collector):
    """A histogram without labels."""

    def __init__(self, name: str, documentation: str, registry: CollectorRegistry, bounds: Sequence[float]) -> None:
        super().__init__(bounds)
        self._described = (name, documentation)
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Return what was counted."""
        family = HistogramMetricFamily(*self._described)
        family.add_metric([], self.buckets(), self.sum)
        return [family]


class Distributions(Collector):
    """A histogram for each value of one label."""

    def __init__(
        self, name: str, documentation: str, registry: CollectorRegistry, bounds: Sequence[float], label: str
    ) -> None:
        self._described = (name, documentation)
        self._label = label
        self._bounds = bounds
        self._series: dict[str, Series] = {}
        registry.register(self)

    def observe(self, label: str, value: float) -> None:
        """Count a value."""
        series = self._series.get(label)
        if series is None:
            series = self._series[label] = Series(self._bounds)
        series.observe(value)

    def collect(self) -> Iterable[Metric]:
        """Return what was counted."""
        family = HistogramMetricFamily(*self._described, labels=[self._label])
        for label, series in self._series.items():
            family.add_metric([label], series.buckets(), series.sum)
        return [family]
