import pytest

from onceserve_serving.batching.probe import treats_rows_alone
from onceserve_serving.engine import ort
from onceserve_serving.engine.runner import in_bulk, warm_up
from unit.serving import models


@pytest.mark.parametrize(
    ("content", "alone"),
    [
        (models.identity(), True),
        (models.lookup(), True),
        (models.every_datatype(), True),
        (models.convolution(), True),
        (models.addition(), True),
        (models.unary("Log"), True),
        (models.centred(), False),
        (models.summed(), False),
        (models.slow(1), False),
        (models.reshape_to(1), False),
    ],
    ids=range(10),
)
def test_a_model_that_mixes_rows_is_found_out(content: bytes, alone: bool) -> None:
    engine = ort.load(content, 1)
    assert treats_rows_alone(engine, warm_up(engine).inputs) is alone


def test_a_run_of_many_rows_is_measured_unless_it_takes_long_or_fails() -> None:
    engine = ort.load(models.identity(), 1)
    warm = warm_up(engine)
    bulk = in_bulk(engine, warm, 32)
    assert bulk is not None
    assert bulk.inputs["x"].shape == (32, 3)
    assert in_bulk(engine, warm.__class__(warm.inputs, 1.0), 32) is None
    other = ort.load(models.reshape_to(1), 1)
    assert in_bulk(other, warm_up(other), 32) is None
