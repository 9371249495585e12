import numpy as np
import pytest

from onceserve_serving.admission import Capacity
from onceserve_serving.engine import ort
from onceserve_serving.engine.runner import Runner, WarmUp
from onceserve_serving.engine.thread import InferenceThread
from onceserve_serving.errors import OverloadedError
from onceserve_serving.served import ServedModel, Terms
from unit.serving import models


@pytest.mark.parametrize("processors", [1, 2])
def test_a_model_that_is_overrun_is_run_in_haste_where_nobody_else_could_refuse_meanwhile(processors: int) -> None:
    model = ServedModel("m", "1", Terms(capacity=Capacity(1, 0, 0), processors=processors))
    engine = ort.load(models.identity(), 1)
    model.install(Runner(engine, InferenceThread(), WarmUp({"x": np.zeros(1, np.float32)}, 0.01)))
    _, admission, batcher = model.journey()
    assert admission.enter_now()
    assert not batcher._in_haste()
    with pytest.raises(OverloadedError):
        admission.check_room(1)
    assert batcher._in_haste() == (processors == 1)
