"""Which models requests go through together."""

import pytest

from onceserve_serving.loading import is_worth_merging


@pytest.mark.parametrize(
    ("gained", "max_delay", "merges"),
    [
        (11.0, 0.0, True),
        (1.06, 0.0, True),
        (1.04, 0.0, False),
        (0.94, 0.0, False),
        (0.94, 0.001, True),
        (None, 0.0, True),
    ],
)
def test_a_batch_must_gain_something_unless_requests_are_to_wait_for_it(
    gained: float | None, max_delay: float, merges: bool
) -> None:
    assert is_worth_merging(gained, max_delay) is merges
