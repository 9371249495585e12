from collections.abc import AsyncIterator

import pytest

from unit.operator.inspection.misbehaving import Pods, serving


@pytest.fixture
async def pods() -> AsyncIterator[Pods]:
    """Pods at every loopback address."""
    async with serving() as found:
        yield found
