"""Options and fixtures of all tests."""

import pytest

from devcluster import binaries
from support.golden import Golden
from support.helm import Helm


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files from what comes out now")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(update=request.config.getoption("--update-golden"))


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm without a cluster, for rendering."""
    return Helm(binaries.find("helm"), tmp_path_factory.mktemp("helm"))
