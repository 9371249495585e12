import string
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceserve_client.policy import FIRST, LONGEST, REFILL, Policy, Tokens, retry_after

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
SECONDS = st.floats(0, 1e6)
POLICIES = st.builds(Policy, tries=st.integers(1, 50), seconds=SECONDS, burst=st.integers(0, 20), ratio=st.floats(0, 1))
DATES = st.datetimes(datetime(1980, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(POLICIES, st.integers(1, 60), SECONDS, SECONDS, st.floats(0, 1))
def test_a_pause_is_as_long_as_was_asked_for_and_ends_within_the_budget(
    policy: Policy, tries: int, elapsed: float, asked: float, drawn: float
) -> None:
    pause = policy.pause(tries=tries, elapsed=elapsed, asked=asked, drawn=drawn)
    if pause is None:
        assert tries >= policy.tries or elapsed + asked + LONGEST >= policy.seconds
    else:
        assert tries < policy.tries
        assert asked <= pause <= asked + LONGEST
        assert elapsed + pause < policy.seconds


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_pauses_double_up_to_the_longest_and_are_drawn_from_nothing_on(tries: int, drawn: float) -> None:
    policy = Policy(tries=20_000)
    full = policy.pause(tries=tries, elapsed=0, asked=0, drawn=1)
    assert full == min(FIRST * 2.0 ** min(tries - 1, 100), LONGEST)
    assert policy.pause(tries=tries, elapsed=0, asked=0, drawn=drawn) == pytest.approx(drawn * full)


@given(POLICIES, st.lists(st.tuples(st.booleans(), st.floats(-1, 10)), max_size=200))
def test_retries_are_never_more_than_the_budget_allows(policy: Policy, events: list[tuple[bool, float]]) -> None:
    tokens, now, latest, calls, retries = Tokens(policy, 0.0), 0.0, 0.0, 0, 0
    for is_call, seconds in events:
        now += seconds
        latest = max(latest, now)
        if is_call:
            tokens.call(now)
            calls += 1
        else:
            retries += tokens.take(now)
        assert retries <= policy.burst + policy.ratio * calls + REFILL * latest + 1e-6


def test_a_client_of_few_calls_has_retries_again_in_time() -> None:
    tokens = Tokens(Policy(burst=2), 0.0)
    assert [tokens.take(0.0) for _ in range(3)] == [True, True, False]
    assert tokens.take(1.0)
    assert not tokens.take(1.5)
    assert [tokens.take(100.0) for _ in range(3)] == [True, True, False]


def test_calls_bring_retries() -> None:
    tokens = Tokens(Policy(burst=1, ratio=0.5), 0.0)
    assert tokens.take(0.0)
    tokens.call(0.0)
    assert not tokens.take(0.0)
    tokens.call(0.0)
    assert tokens.take(0.0)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [("tries", 0, 1), ("seconds", -1.0, 0), ("seconds", float("nan"), 0), ("burst", -1, 0), ("ratio", -0.1, 0)],
)
def test_a_policy_that_makes_no_sense_is_refused(field: str, value: Any, expected: int) -> None:
    with pytest.raises(ValueError, match=rf"^{field}: {expected} or more was expected, not {value}$"):
        Policy(**{field: value})


@given(st.integers(0, 10**30))
def test_seconds_are_read(seconds: int) -> None:
    assert retry_after({"Retry-After": str(seconds)}, NOW) == float(seconds)


@given(DATES, DATES)
def test_dates_are_counted_from_the_answers_own(until: datetime, date: datetime) -> None:
    headers = {"Retry-After": format_datetime(until, usegmt=True), "Date": format_datetime(date, usegmt=True)}
    expected = (until.replace(microsecond=0) - date.replace(microsecond=0)).total_seconds()
    assert retry_after(headers, NOW) == max(expected, 0)


def test_without_a_date_of_its_own_an_answer_is_from_now() -> None:
    later = format_datetime(NOW + timedelta(seconds=7), usegmt=True)
    assert retry_after({"Retry-After": later}, NOW) == 7
    assert retry_after({"Retry-After": later, "Date": "yesterday"}, NOW) == 7


@given(st.text() | st.text(string.digits + string.ascii_letters + " ,:+-GMT", max_size=40))
def test_what_is_no_time_asks_for_nothing(text: str) -> None:
    asked = retry_after({"Retry-After": text, "Date": text}, NOW)
    assert asked >= 0


@pytest.mark.parametrize("text", ["", "soon", "-1", "1.5", "٣", "Mon, 01 Jan 99999999999999 00:00:00 GMT", "1,2,3,4,5"])
def test_what_no_server_may_send_is_as_nothing(text: str) -> None:
    assert retry_after({"Retry-After": text}, NOW) == 0
