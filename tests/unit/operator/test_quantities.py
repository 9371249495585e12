import pytest

from onceserve_operator import quantities


@pytest.mark.parametrize(
    ("text", "seconds"), [("10m", 600), ("1h30m", 5400), ("500ms", 0.5), ("1.5s", 1.5), ("0s", 0), ("2h0m1s", 7201)]
)
def test_durations(text: str, seconds: float) -> None:
    assert quantities.seconds(text) == seconds


@pytest.mark.parametrize(
    ("of", "amount", "share"), [(10, 3, 3), (10, "25%", 3), (4, "25%", 1), (3, "0%", 0), (0, "50%", 0)]
)
def test_shares_are_rounded_up(of: int, amount: int | str, share: int) -> None:
    assert quantities.share(of, amount) == share
