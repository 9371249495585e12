import itertools

import pytest

from onceserve_serving.lifecycle import Lifecycle, Phase


@pytest.mark.parametrize(("first", "second"), list(itertools.product(Phase, Phase)))
def test_it_only_moves_forward(first: Phase, second: Phase) -> None:
    lifecycle = Lifecycle()
    lifecycle.advance(first)
    lifecycle.advance(second)
    assert lifecycle.phase is max(first, second)
    assert lifecycle.describe()
