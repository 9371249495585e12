import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceserve_operator.api.rollout import MetricCheck
from onceserve_operator.domain import Measured, Problem
from onceserve_operator.inspection import measurement
from onceserve_operator.inspection.measurement import BUCKETS, NOTHING, REQUESTS, Sample, Tally

INF = math.inf


def sample(requests: dict[str, float], buckets: dict[float, float] | None = None) -> Sample:
    return Sample(requests, {INF: sum(requests.values())} if buckets is None else buckets)


def check(name: str, **more: Any) -> MetricCheck:
    return MetricCheck(name=name, **more)


def judged(one: MetricCheck, target: Sample, stable: Sample = NOTHING) -> Measured:
    return measurement.judge([one], target, stable)


# --- reading


def points(*given: tuple[str, dict[str, str], float]) -> list[tuple[str, dict[str, str], float]]:
    return [*given, (BUCKETS, {"le": "0.1"}, 1), (BUCKETS, {"le": "+Inf"}, 3), ("other", {}, math.nan)]


def test_counters_are_read_whatever_their_further_labels() -> None:
    found = measurement.read(
        points(
            (REQUESTS, {"code": "200", "protocol": "http"}, 1),
            (REQUESTS, {"code": "200", "protocol": "grpc"}, 2),
            (REQUESTS, {"code": "503", "protocol": "grpc", "model": "m"}, 4),
        )
    )
    assert found == Sample({"200": 3, "503": 4}, {0.1: 1, INF: 3})


def test_a_pod_that_has_answered_nothing_yet_tells_no_codes() -> None:
    assert measurement.read([(BUCKETS, {"le": "+Inf"}, 0)]) == Sample({}, {INF: 0})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], f'{BUCKETS} with le="\\+Inf" is missing'),
        ([(REQUESTS, {"code": "200"}, 1)], f'{BUCKETS} with le="\\+Inf" is missing'),
        ([(BUCKETS, {"le": "0.1"}, 1)], f'{BUCKETS} with le="\\+Inf" is missing'),
        ([(BUCKETS, {"le": "+Inf"}, 1)], f"{REQUESTS} is missing"),
        (points((REQUESTS, {}, 1)), f"{REQUESTS} has no label code"),
        (points((REQUESTS, {"code": "200"}, math.nan)), f"{REQUESTS} is nan"),
        (points((REQUESTS, {"code": "200"}, -1)), f"{REQUESTS} is -1"),
        (points((BUCKETS, {"le": "1"}, INF)), f"{BUCKETS} is inf"),
        (points((BUCKETS, {"le": "x"}, 1)), "could not convert string to float: 'x'"),
        (points((BUCKETS, {"le": "1"}, 0), (REQUESTS, {"code": "200"}, 3)), f"{BUCKETS} falls with rising le"),
    ],
)
def test_incomplete_metrics_are_refused_in_words(given: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        measurement.read(given)


# --- counting

COUNTS = st.dictionaries(st.sampled_from(["200", "429", "500"]), st.integers(0, 50))
BOUNDS = (0.1, 1.0, INF)


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    counts = sorted(draw(st.lists(st.integers(0, 50), min_size=len(BOUNDS), max_size=len(BOUNDS))))
    return Sample(draw(COUNTS), dict(zip(BOUNDS, counts, strict=True)))


def added(*given: Sample) -> Sample:
    return measurement.total(given)


def same(a: Sample, b: Sample) -> bool:
    keys = a.requests.keys() | b.requests.keys()
    return all(a.requests.get(key, 0) == b.requests.get(key, 0) for key in keys) and a.buckets == b.buckets


@given(samples(), samples())
def test_the_increase_is_what_was_added(before: Sample, more: Sample) -> None:
    assert same(measurement.increase(before, added(before, more)), more)


def test_after_a_restart_all_of_the_sample_is_new() -> None:
    before = sample({"200": 10, "500": 5}, {0.1: 10, INF: 15})
    assert measurement.increase(before, sample({"200": 3})) == sample({"200": 3})
    # One code has passed its former count already; the other shows the restart.
    after = sample({"200": 12, "500": 1}, {0.1: 12, INF: 13})
    assert measurement.increase(before, after) == after
    after = sample({"200": 10, "500": 5}, {0.1: 9, INF: 15})
    assert measurement.increase(before, after) == after


@given(st.lists(st.lists(samples(), min_size=1, max_size=4), min_size=1, max_size=4))
def test_a_tally_counts_across_restarts_each_request_that_a_sample_has_seen(lives: list[list[Sample]]) -> None:
    """Each life of the container is a list of what is added between samples."""
    tally, expected = Tally(), 0.0
    before = NOTHING
    for life in lives:
        now = NOTHING
        for more in life:
            now = added(now, more)
            restarted = any(now.requests.get(code, 0) < count for code, count in before.requests.items())
            restarted |= any(now.buckets.get(bound, 0) < count for bound, count in before.buckets.items())
            expected += now.timed if restarted else now.timed - before.timed
            tally = tally.advance(now)
            before = now
    assert tally.total.timed == expected
    if len(lives) == 1:
        assert tally.total.timed == sum(more.timed for more in lives[0])


def test_a_baseline_is_not_counted() -> None:
    baseline = sample({"200": 100})
    tally = Tally(last=baseline).advance(baseline)
    assert tally.total.answered == 0
    assert tally.advance(sample({"200": 103, "500": 1})).total.requests == {"200": 3, "500": 1}


@given(st.lists(samples(), max_size=5))
def test_a_sum_counts_every_pod_once(pods: list[Sample]) -> None:
    found = measurement.total(pods)
    assert found.answered == sum(pod.answered for pod in pods)
    assert found.timed == sum(pod.timed for pod in pods)


def test_latencies_are_summed_only_at_bounds_that_all_pods_have() -> None:
    found = measurement.total((Sample({}, {0.1: 1, 0.5: 2, INF: 3}), Sample({}, {0.1: 4, 0.25: 5, INF: 6}), NOTHING))
    assert found.buckets == {0.1: 5, INF: 9}


# --- figures


def test_the_error_rate_is_the_share_of_5xx_among_what_was_not_refused() -> None:
    found = sample({"200": 90, "400": 5, "499": 1, "500": 1, "503": 2, "504": 1, "429": 1000})
    assert (found.errors, found.answered, found.refused) == (4, 100, 1000)
    assert measurement.error_rate(found) == 0.04


def test_nothing_answered_is_no_error_rate() -> None:
    assert math.isnan(measurement.error_rate(NOTHING))
    assert math.isnan(measurement.error_rate(sample({"429": 7})))


@pytest.mark.parametrize(
    ("q", "expected"),
    [(0.5, 0.1 + 0.9 * (50 - 40) / 40), (0.2, 0.05), (0.4, 0.1), (0.8, 1.0), (0.9, 1.0), (0.99, 1.0), (1.0, 1.0)],
)
def test_a_quantile_is_interpolated_and_ends_at_the_highest_finite_bound(q: float, expected: float) -> None:
    assert measurement.quantile(q, Sample({}, {0.1: 40, 1.0: 80, INF: 100})) == pytest.approx(expected)


def test_without_requests_or_finite_bounds_there_is_no_quantile() -> None:
    assert math.isnan(measurement.quantile(0.5, NOTHING))
    assert math.isnan(measurement.quantile(0.5, Sample({}, {0.1: 0, INF: 0})))
    assert math.isnan(measurement.quantile(0.5, Sample({}, {INF: 9})))


@given(samples(), st.floats(0.01, 1), st.floats(0.01, 1))
def test_quantiles_rise_and_stay_in_the_bucket_of_their_rank(found: Sample, p: float, q: float) -> None:
    low, high = (measurement.quantile(each, found) for each in sorted((p, q)))
    if not found.timed:
        assert math.isnan(low)
        return
    assert 0 <= low <= high <= 1
    rank = max(p, q) * found.timed
    bucket = next(bound for bound, count in found.buckets.items() if count >= rank)
    below = max((bound for bound in (0.0, *BOUNDS) if bound < bucket), default=0.0)
    assert below - 1e-12 <= high <= min(bucket, 1.0) + 1e-12


# --- judging


def test_too_few_requests_are_not_judged() -> None:
    few = sample({"500": 12})
    assert judged(check("ErrorRate", max="0"), few) == Measured("ErrorRate is not judged yet: 12 of 50 requests")
    assert judged(check("LatencyP99", max="1ms", min_samples=20), few) == Measured(
        "LatencyP99 is not judged yet: 12 of 20 requests"
    )
    assert judged(check("ErrorRate", max="0"), NOTHING).message == "ErrorRate is not judged yet: 0 of 50 requests"


def test_an_error_rate_above_its_bound_is_a_problem_with_its_figures() -> None:
    target = sample({"200": 479, "500": 21})
    message = "ErrorRate is 0.042 (21 of 500 requests), at most 0.01 is allowed"
    assert judged(check("ErrorRate", max="0.01"), target) == Measured(message, Problem("ErrorRateTooHigh", message))
    assert judged(check("ErrorRate", max="0.042"), target) == Measured(
        "ErrorRate is 0.042 (21 of 500 requests), at most 0.042"
    )


def test_refused_requests_are_neither_errors_nor_answers_and_are_told() -> None:
    target = sample({"200": 50, "429": 1000})
    assert judged(check("ErrorRate", max="0"), target) == Measured(
        "ErrorRate is 0 (0 of 50 requests), at most 0, 1000 refused with 429 are not counted"
    )
    few = sample({"200": 49, "429": 1000})
    assert judged(check("ErrorRate", max="0"), few) == Measured(
        "ErrorRate is not judged yet: 49 of 50 requests, 1000 refused with 429 are not counted"
    )


def latencies(count: int, bound: float) -> Sample:
    """So many requests, all in one bucket."""
    buckets = {each: (count if each >= bound else 0) for each in (0.01, 0.1, 1.0, 10.0, INF)}
    return Sample({"200": count}, buckets)


def test_a_latency_above_its_bound_is_a_problem_with_its_figures() -> None:
    message = "LatencyP50 is 55ms, at most 50ms is allowed"
    target = latencies(100, 0.1)
    assert judged(check("LatencyP50", max="50ms"), target) == Measured(message, Problem("LatencyTooHigh", message))
    assert judged(check("LatencyP50", max="56ms"), target) == Measured("LatencyP50 is 55ms, at most 56ms")
    assert judged(check("LatencyP90", max="1m"), latencies(100, 10.0)).message == "LatencyP90 is 9.1s, at most 1m"
    assert judged(check("LatencyP99", max="9s"), latencies(100, INF)).problem is not None


def test_a_bound_may_be_a_percentage_of_what_the_old_revision_has() -> None:
    one = check("LatencyP50", max_of_stable="150%")
    slow, fast = latencies(100, 0.1), latencies(100, 0.01)
    message = "LatencyP50 is 55ms, at most 150% of the old revision's 5ms is allowed"
    assert judged(one, slow, fast) == Measured(message, Problem("LatencyTooHigh", message))
    assert judged(one, slow, slow) == Measured("LatencyP50 is 55ms, at most 150% of the old revision's 55ms")
    assert judged(one, fast, slow).problem is None


def test_an_old_revision_with_too_few_requests_is_not_compared_with() -> None:
    few = latencies(12, 0.01)
    both = check("LatencyP50", max="1s", max_of_stable="150%")
    assert judged(both, latencies(100, 0.1), few) == Measured(
        "LatencyP50 is 55ms, at most 1s, not compared yet: the old revision has 12 of 50 requests"
    )
    assert judged(both, latencies(100, 10.0), few).problem is not None


def test_the_worse_of_two_bounds_is_told() -> None:
    one = check("ErrorRate", max="0.5", max_of_stable="200%")
    stable = sample({"200": 99, "500": 1})
    assert "200% of the old revision's 0.01" in judged(one, sample({"200": 90, "500": 10}), stable).message
    assert "at most 0.5 is allowed" in judged(one, sample({"200": 40, "500": 60}), stable).message


def test_pods_without_a_common_bound_have_no_latency() -> None:
    target = Sample({"200": 100}, {INF: 100})
    assert judged(check("LatencyP50", max="1ms"), target) == Measured(
        "LatencyP50 is not judged yet: no bounds that all pods have"
    )


def test_all_checks_are_told_and_the_first_problem_counts() -> None:
    checks = [check("LatencyP50", max="1s"), check("LatencyP99", max="1ms"), check("ErrorRate", max="0")]
    target = Sample({"200": 50, "500": 50}, latencies(100, 0.1).buckets)
    found = measurement.judge(checks, target, NOTHING)
    assert found.message.count("; ") == 2
    assert found.problem is not None
    assert found.problem.reason == "LatencyTooHigh"
    assert measurement.judge([], target, NOTHING) == Measured("")
