import pytest

from onceserve_serving.errors import InvalidSettingsError
from onceserve_serving.idempotency import migrations
from onceserve_serving.idempotency.migrations import Migration

KNOWN = [Migration(1, 1, ""), Migration(2, 1, ""), Migration(3, 2, "")]


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_steps_are_numbered_without_gaps_and_need_none_that_comes_later(store: str) -> None:
    steps = migrations.load(store)
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    assert all(step.needs <= step.number for step in steps)


@pytest.mark.parametrize(
    ("applied", "numbers"),
    [([], [1, 2, 3]), ([(1, 1)], [2, 3]), ([(1, 1), (2, 1), (3, 2)], []), ([(1, 1), (3, 2), (9, 3)], [2])],
)
def test_what_is_missing_is_applied(applied: list[tuple[int, int]], numbers: list[int]) -> None:
    assert [step.number for step in migrations.missing(KNOWN, applied, "it")] == numbers


def test_a_store_of_a_release_too_new_is_refused() -> None:
    with pytest.raises(InvalidSettingsError, match="it: its schema needs a server that knows migration 4"):
        migrations.missing(KNOWN, [(1, 1), (4, 4)], "it")
