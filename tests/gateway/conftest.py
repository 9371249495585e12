"""The cluster of tests/e2e, with a Gateway in it."""

from collections.abc import Generator

import pytest

from devcluster import traefik
from e2e.conftest import cluster, installed, operator_log

__all__ = ["cluster", "installed"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what the cluster and the Gateway have to say of it."""
    report = yield
    example = getattr(item, "funcargs", {}).get("served")
    if report.when == "call" and report.failed and example is not None:
        report.sections += [
            ("cluster", example.describe()),
            ("operator", operator_log(example.cluster)),
            ("gateway", traefik.log(example.cluster)),
        ]
    return report
