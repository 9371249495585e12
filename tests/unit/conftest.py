import pytest

SECONDS = 30
"""Far above what any of them takes, so that one that hangs fails soon, on a slow machine too."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(item.config.rootpath / "tests" / "unit") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SECONDS))
