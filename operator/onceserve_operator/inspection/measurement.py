"""What pods counted of the requests that they answered, and whether it holds the bounds.

An error is an answer with a status of 5xx; what fails over gRPC is counted by the server under the status that the same
failure has over HTTP (UNAVAILABLE 503, INTERNAL and UNKNOWN 500, DEADLINE_EXCEEDED 504). Requests refused with 429 say
that there are too few pods, not that the model is wrong: they are neither errors nor answers. In latencies they are
included, since the server's histogram does not tell them apart.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, TypeVar

from onceserve_operator import quantities
from onceserve_operator.api.rollout import MetricCheck, MetricName
from onceserve_operator.domain import Measured, Problem

ERROR_RATE_TOO_HIGH: Final = "ErrorRateTooHigh"
LATENCY_TOO_HIGH: Final = "LatencyTooHigh"

REQUESTS: Final = "onceserve_requests_total"
BUCKETS: Final = "onceserve_request_duration_seconds_bucket"

K = TypeVar("K")

_REFUSED: Final = "429"
_QUANTILES: Final = {MetricName.LATENCY_P50: 0.5, MetricName.LATENCY_P90: 0.9, MetricName.LATENCY_P99: 0.99}


@dataclass(frozen=True, slots=True)
class Sample:
    """Counters of one pod, or sums of them."""

    requests: Mapping[str, float] = field(default_factory=dict)
    """Requests by the code of their answer."""
    buckets: Mapping[float, float] = field(default_factory=dict)
    """By upper bound in seconds: requests that took no longer."""

    @property
    def refused(self) -> float:
        """Requests for which there was no room."""
        return self.requests.get(_REFUSED, 0)

    @property
    def answered(self) -> float:
        """Requests that were not refused for lack of room."""
        return sum(self.requests.values()) - self.refused

    @property
    def errors(self) -> float:
        """Requests that the server could not answer."""
        return sum(count for code, count in self.requests.items() if code.startswith("5"))

    @property
    def timed(self) -> float:
        """Requests of which the latency is known."""
        return self.buckets.get(math.inf, 0)


NOTHING: Final = Sample()


@dataclass(frozen=True, slots=True)
class Tally:
    """What a pod has counted since it was first looked at."""

    last: Sample = NOTHING
    total: Sample = NOTHING

    def advance(self, sample: Sample) -> "Tally":
        """Return the tally with a further sample of the same pod."""
        return Tally(sample, total((self.total, increase(self.last, sample))))


def read(points: Iterable[tuple[str, Mapping[str, str], float]]) -> Sample:
    """Return the counters among a pod's metrics: names, labels and values. Raises ValueError for what is incomplete."""
    requests: dict[str, float] = {}
    buckets: dict[float, float] = {}
    for name, labels, value in points:
        if name not in {REQUESTS, BUCKETS}:
            continue
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} is {value}")
        if name == REQUESTS:
            _add(requests, _label(name, labels, "code"), value)
        else:
            _add(buckets, float(_label(name, labels, "le")), value)
    _check(requests, buckets)
    return Sample(requests, dict(sorted(buckets.items())))


def _label(name: str, labels: Mapping[str, str], label: str) -> str:
    if label not in labels:
        raise ValueError(f"{name} has no label {label}")
    return labels[label]


def _add(counts: dict[K, float], key: K, value: float) -> None:
    counts[key] = counts.get(key, 0) + value


def _check(requests: Mapping[str, float], buckets: Mapping[float, float]) -> None:
    if math.inf not in buckets:
        raise ValueError(f'{BUCKETS} with le="+Inf" is missing')
    if any(low > high for (_, low), (_, high) in pairwise(sorted(buckets.items()))):
        raise ValueError(f"{BUCKETS} falls with rising le")
    # A code is told from its first request on, so that none are there before.
    if buckets[math.inf] and not requests:
        raise ValueError(f"{REQUESTS} is missing")


def increase(before: Sample, after: Sample) -> Sample:
    """Return what a pod counted between two samples: all of the later one where its container has started anew."""
    if _fell(before.requests, after.requests) or _fell(before.buckets, after.buckets):
        return after
    requests = {code: count - before.requests.get(code, 0) for code, count in after.requests.items()}
    return Sample(requests, {bound: count - before.buckets.get(bound, 0) for bound, count in after.buckets.items()})


def _fell(before: Mapping[K, float], after: Mapping[K, float]) -> bool:
    return any(after.get(key, 0) < count for key, count in before.items())


def total(samples: Iterable[Sample]) -> Sample:
    """Return the sum of samples; of latencies only at bounds that all have, where it is exact."""
    requests: dict[str, float] = {}
    known = tuple(samples)
    for sample in known:
        for code, count in sample.requests.items():
            _add(requests, code, count)
    timed = [sample.buckets for sample in known if sample.buckets]
    bounds = sorted(set.intersection(*map(set, timed))) if timed else []
    return Sample(requests, {bound: sum(buckets[bound] for buckets in timed) for bound in bounds})


def error_rate(sample: Sample) -> float:
    """Return the share of errors; NaN where nothing was answered."""
    return sample.errors / sample.answered if sample.answered else math.nan


def quantile(q: float, sample: Sample) -> float:
    """Return the latency in seconds that a share `q` > 0 of the requests did not exceed, as `histogram_quantile` does.

    It is interpolated within its bucket. Above the highest finite bound it is that bound; NaN where nothing is known.
    """
    bounds = sorted(sample.buckets.items())
    rank = q * sample.timed
    if not sample.timed or len(bounds) == 1:
        return math.nan
    place = next(place for place, (_, count) in enumerate(bounds) if count >= rank)
    (bound, count), (low, below) = bounds[place], bounds[place - 1] if place else (0.0, 0.0)
    if math.isinf(bound):
        return low
    # Rounding must not lead out of the bucket.
    return min(bound, low + (bound - low) * (rank - below) / (count - below))


def judge(checks: Sequence[MetricCheck], target: Sample, stable: Sample) -> Measured:
    """Judge what the new revision measured, where need be against the old one at the same time."""
    return combine(_judged(check, target, stable) for check in checks)


def combine(parts: Iterable[Measured]) -> Measured:
    """Return several judgements as one: all messages, and the first problem."""
    known = tuple(parts)
    problem = next((part.problem for part in known if part.problem), None)
    return Measured("; ".join(part.message for part in known if part.message), problem)


@dataclass(frozen=True, slots=True)
class _Figure:
    """One metric of one revision."""

    value: float
    count: float
    """Requests that it is made of."""
    words: str


def _figure(name: MetricName, sample: Sample) -> _Figure:
    if name is MetricName.ERROR_RATE:
        value = error_rate(sample)
        words = f"{value:.4g} ({sample.errors:.0f} of {sample.answered:.0f} requests)"
        return _Figure(value, sample.answered, words)
    value = quantile(_QUANTILES[name], sample)
    return _Figure(value, sample.timed, _duration(value))


def _judged(check: MetricCheck, target: Sample, stable: Sample) -> Measured:
    figure = _figure(check.name, target)
    is_share = check.name is MetricName.ERROR_RATE
    refused = f", {target.refused:.0f} refused with 429 are not counted" if is_share and target.refused else ""
    if unknown := _not_judged(check, figure):
        return Measured(f"{check.name} is not judged yet: {unknown}{refused}")
    reference = _figure(check.name, stable)
    unknown = check.max_of_stable and _not_judged(check, reference)
    bounds = _bounds(check, None if unknown else reference)
    if broken := next((words for bound, words in bounds if figure.value > bound), None):
        reason = ERROR_RATE_TOO_HIGH if is_share else LATENCY_TOO_HIGH
        message = f"{check.name} is {figure.words}, at most {broken} is allowed{refused}"
        return Measured(message, Problem(reason, message))
    held = "".join(f", at most {words}" for _, words in bounds)
    waiting = f", not compared yet: the old revision has {unknown}" if unknown else ""
    return Measured(f"{check.name} is {figure.words}{held}{waiting}{refused}")


def _not_judged(check: MetricCheck, figure: _Figure) -> str | None:
    if figure.count < check.min_samples:
        return f"{figure.count:.0f} of {check.min_samples} requests"
    return "no bounds that all pods have" if math.isnan(figure.value) else None


def _bounds(check: MetricCheck, reference: _Figure | None) -> list[tuple[float, str]]:
    """Return each bound as a number and in words; without a reference only the one that needs none."""
    bounds: list[tuple[float, str]] = []
    if check.max is not None:
        is_share = check.name is MetricName.ERROR_RATE
        bounds.append((float(check.max) if is_share else quantities.seconds(check.max), check.max))
    if check.max_of_stable is not None and reference is not None:
        factor = int(check.max_of_stable.rstrip("%")) / 100
        bounds.append((factor * reference.value, f"{check.max_of_stable} of the old revision's {reference.words}"))
    return bounds


def _duration(seconds: float) -> str:
    return f"{seconds:.6g}s" if seconds >= 1 else f"{1000 * seconds:.6g}ms"
