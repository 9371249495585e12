import pytest

from onceserve_serving.idempotency import breaker
from onceserve_serving.idempotency.breaker import FAILURES, PAUSE, Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(breaker, "time", clock)
    return clock


def failed(times: int) -> Breaker:
    made = Breaker()
    for _ in range(times):
        made.failed()
    return made


def test_a_few_failures_do_not_open_it(clock: Clock) -> None:
    assert not failed(FAILURES - 1).is_open


def test_many_in_a_row_do_at_once(clock: Clock) -> None:
    assert failed(FAILURES).is_open


def test_an_answer_between_them_begins_the_count_anew(clock: Clock) -> None:
    made = failed(FAILURES - 1)
    made.succeeded()
    for _ in range(FAILURES - 1):
        made.failed()
    assert not made.is_open


def test_after_a_pause_one_is_let_through_and_no_more(clock: Clock) -> None:
    made = failed(FAILURES)
    clock.now += PAUSE
    assert [made.is_open for _ in range(3)] == [False, True, True]
    made.failed()
    assert made.is_open
    clock.now += PAUSE
    assert [made.is_open for _ in range(2)] == [False, True]


def test_one_that_nobody_hears_of_is_followed_by_another(clock: Clock) -> None:
    made = failed(FAILURES)
    for _ in range(3):
        clock.now += PAUSE
        assert not made.is_open


def test_one_answer_closes_it(clock: Clock) -> None:
    made = failed(2 * FAILURES)
    clock.now += PAUSE
    assert not made.is_open
    made.succeeded()
    assert [made.is_open for _ in range(3)] == [False] * 3
