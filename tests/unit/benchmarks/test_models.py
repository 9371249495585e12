from pathlib import Path

import numpy as np

from benchmarks import models


def test_models_are_made_alike_each_time_and_take_batches(tmp_path: Path) -> None:
    first = models.make(tuple(models.BUILDERS), tmp_path)
    contents = {name: model.path.read_bytes() for name, model in first.items()}
    second = models.make(tuple(models.BUILDERS), tmp_path)

    for name, model in second.items():
        assert model.path.read_bytes() == contents[name]
        assert model.agrees(first[name].expected)
        two = models.session(model.path).run([models.OUTPUT], {models.INPUT: np.repeat(model.value, 2, axis=0)})[0]
        assert two.shape == (2, *model.expected.shape[1:])


def test_other_shapes_and_values_do_not_agree(tmp_path: Path) -> None:
    risk = models.make(["risk"], tmp_path)["risk"]

    assert risk.agrees(risk.expected.tolist())
    assert not risk.agrees(risk.expected[0])
    assert not risk.agrees(risk.expected + 0.01)
