import numpy as np
import pytest

from onceserve_serving.batching.probe import treats_rows_alone
from onceserve_serving.engine import ort
from onceserve_serving.engine.runner import WarmUp, gain, in_bulk, warm_up
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
    assert in_bulk(engine, WarmUp(warm.inputs, 1.0), 32) is None
    other = ort.load(models.reshape_to(1), 1)
    assert in_bulk(other, warm_up(other), 32) is None


@pytest.mark.parametrize(("seconds", "rows"), [(1e-6, 32), (0.0005, 16), (0.002, 4), (0.4, 4)])
def test_of_a_slow_model_few_rows_are_measured(seconds: float, rows: int) -> None:
    engine = ort.load(models.identity(), 1)
    bulk = in_bulk(engine, WarmUp(warm_up(engine).inputs, seconds), 32)
    assert bulk is not None
    assert bulk.inputs["x"].shape == (rows, 3)


@pytest.mark.parametrize(("seconds", "gained"), [(0.002, 4.0), (0.008, 1.0), (0.010, 0.8)])
def test_what_a_batch_gains_is_the_rows_in_the_time_of_one(seconds: float, gained: float) -> None:
    one, four = np.zeros((1, 0), np.float32), np.zeros((4, 0), np.float32)
    assert gain(WarmUp({"x": one}, 0.002), WarmUp({"x": four}, seconds)) == pytest.approx(gained)
