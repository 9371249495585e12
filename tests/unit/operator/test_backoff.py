from itertools import islice

from onceserve_operator.backoff import backoff


def test_delays_double_up_to_a_minute() -> None:
    assert list(islice(backoff(), 9)) == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]


def test_the_first_and_the_last_can_be_given() -> None:
    assert list(islice(backoff(1, 5), 5)) == [1, 2, 4, 5, 5]
