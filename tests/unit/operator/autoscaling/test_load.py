import pytest

from onceserve_operator.autoscaling.load import LONGEST, Reading, point, read

METRICS = """\
# HELP onceserve_requests_total Inference requests answered.
onceserve_requests_total{code="200",protocol="http"} 5.0
onceserve_requests_total{code="429",protocol="grpc"} 2.0
onceserve_queue_duration_seconds_bucket{le="0.1"} 4.0
onceserve_queue_duration_seconds_sum 1.5
onceserve_queue_duration_seconds_count 4.0
onceserve_inflight_requests 3.0
onceserve_queued_requests 1.0
"""


def test_a_pod_s_metrics_are_read() -> None:
    assert read(METRICS) == Reading(inflight=3, answered=7, begun=4, waited=1.5)


def test_nothing_is_counted_before_the_first_request() -> None:
    assert read("onceserve_inflight_requests 0.0\n") == Reading(0)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-1", "many", ""])
def test_what_is_no_amount_is_no_reading(value: str) -> None:
    with pytest.raises(ValueError, match=r"onceserve_inflight_requests|could not convert"):
        read(f"onceserve_inflight_requests {value}")


@pytest.mark.parametrize("text", ["", "<html>", "onceserve_requests_total 5"])
def test_another_s_metrics_are_no_reading(text: str) -> None:
    with pytest.raises(ValueError, match="onceserve_inflight_requests is missing"):
        read(text)


def test_what_arrived_is_what_was_answered_and_what_is_more_in_work() -> None:
    before, after = {"a": Reading(2, 10, 8, 1.0)}, {"a": Reading(5, 14, 11, 1.5)}
    found = point(before, after, at=9, seconds=2)
    assert (found.inflight, found.arrived, found.begun, found.waited) == (5, 7, 3, 0.5)
    assert found.told
    assert found.counted


def test_of_a_new_pod_only_what_it_has_in_work_is_known() -> None:
    found = point({}, {"a": Reading(2, 10)}, at=9, seconds=2)
    assert (found.inflight, found.arrived, found.told, found.counted) == (2, 0, True, False)
    assert not found.restarted


def test_a_counter_that_fell_is_of_a_container_that_started_anew() -> None:
    found = point({"a": Reading(2, 100, 90, 9)}, {"a": Reading(1, 3, 2, 0.1)}, at=9, seconds=2)
    assert (found.arrived, found.begun, found.waited) == (4, 2, 0.1)
    assert found.restarted
    assert not found.counted


def test_a_silent_pod_is_missing() -> None:
    found = point({"a": Reading(2), "b": Reading(2)}, {"a": Reading(4), "b": None}, at=9, seconds=2)
    assert (found.pods, found.known, found.inflight, found.told, found.counted) == (2, 1, 4, False, False)


def test_a_pod_that_is_gone_counts_no_more() -> None:
    found = point({"a": Reading(2, 10), "b": Reading(9, 99)}, {"a": Reading(2, 12)}, at=9, seconds=2)
    assert (found.inflight, found.arrived, found.counted) == (2, 2, True)


def test_of_nobody_nothing_is_known() -> None:
    found = point({}, {}, at=9, seconds=2)
    assert not found.told
    assert not found.counted


def test_a_look_stands_for_no_more_than_a_while() -> None:
    assert point({}, {}, at=9, seconds=300).seconds == LONGEST
