"""The committed example is what its training script makes."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from onceserve_serving.engine import ort

EXAMPLE = Path(__file__).parents[3] / "examples" / "breast-cancer"

# It trains models.
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def train() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train", EXAMPLE / "train.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def trained(train: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    for variant in train.VARIANTS:
        train.train(variant, folder)
    return folder


def answers(path: Path, rows: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    engine = ort.load(path.read_bytes(), threads=1)
    labels, probabilities = engine.run({"X": np.array(rows, dtype=np.float32)}, ("label", "probabilities"))
    return labels, probabilities


@pytest.mark.parametrize("name", ["model.onnx", "model-v2.onnx"])
def test_the_committed_models_are_the_trained_ones_and_good(trained: Path, name: str) -> None:
    cases = json.loads((EXAMPLE / "test-set.json").read_text())
    labels, probabilities = answers(EXAMPLE / name, cases["rows"])
    again = answers(trained / name, cases["rows"])
    np.testing.assert_array_equal(labels, again[0])
    # Another processor's vector units may round the training's last bits otherwise.
    np.testing.assert_allclose(probabilities, again[1], atol=1e-4)
    assert np.mean(labels == cases["labels"]) >= 0.95
    assert len(cases["labels"]) == 143
    assert (EXAMPLE / name).stat().st_size < 100_000


def test_the_committed_test_set_is_the_held_out_one(trained: Path) -> None:
    assert (EXAMPLE / "test-set.json").read_bytes() == (trained / "test-set.json").read_bytes()


def test_training_twice_writes_the_same_bytes(
    train: ModuleType, trained: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    again = tmp_path_factory.mktemp("again")
    for variant, (name, _) in train.VARIANTS.items():
        train.train(variant, again)
        assert (again / name).read_bytes() == (trained / name).read_bytes()


def test_the_two_models_answer_differently_under_one_signature() -> None:
    cases = json.loads((EXAMPLE / "test-set.json").read_text())
    one, two = (ort.load((EXAMPLE / name).read_bytes(), 1).signature for name in ("model.onnx", "model-v2.onnx"))
    assert (one.inputs, one.outputs) == (two.inputs, two.outputs)
    first, second = (answers(EXAMPLE / name, cases["rows"])[1] for name in ("model.onnx", "model-v2.onnx"))
    assert not np.allclose(first, second, atol=1e-2)
