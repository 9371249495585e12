"""Trains the example models on scikit-learn's bundled breast-cancer data and writes them as ONNX.

    uv run python examples/breast-cancer/train.py [--variant plain|regularised] [--output DIRECTORY]

`plain` writes model.onnx and test-set.json. `regularised` writes model-v2.onnx: the same signature, other answers, so
that a rollout from one to the other has something to show. The same versions of the libraries write the same bytes.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from skl2onnx import to_onnx
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).parent
SEED = 0
OPSET = {"": 21, "ai.onnx.ml": 3}


class Split(NamedTuple):
    """Rows of 30 measurements as float32, the form in which the models take them; label 0 is malignant, 1 benign."""

    train_rows: NDArray[np.float32]
    test_rows: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    test_labels: NDArray[np.int64]


def split() -> Split:
    data = load_breast_cancer()
    rows = data.data.astype(np.float32)
    return Split(*train_test_split(rows, data.target, test_size=0.25, random_state=SEED, stratify=data.target))


def classifier(regularisation: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=1 / regularisation, random_state=SEED))


VARIANTS = {"plain": ("model.onnx", 1.0), "regularised": ("model-v2.onnx", 10.0)}


def export(fitted: Pipeline, rows: NDArray[np.float32]) -> bytes:
    model = to_onnx(fitted, rows[:1], options={"zipmap": False}, target_opset=OPSET)
    for value in (model.graph.input[0], *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    # skl2onnx names the graph anew in every run.
    model.graph.name = "breast-cancer"
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def test_set(data: Split) -> str:
    # The shortest decimals that are the same float32 again.
    rows = [[float(str(value)) for value in row] for row in data.test_rows]
    cases = {"rows": rows, "labels": data.test_labels.tolist()}
    return json.dumps(cases, separators=(",", ":")) + "\n"


def train(variant: str, output: Path) -> None:
    name, regularisation = VARIANTS[variant]
    data = split()
    fitted = classifier(regularisation).fit(data.train_rows, data.train_labels)
    (output / name).write_bytes(export(fitted, data.train_rows))
    if variant == "plain":
        (output / "test-set.json").write_text(test_set(data), encoding="utf-8")
    accuracy = fitted.score(data.test_rows, data.test_labels)
    print(f"{name}: {accuracy:.1%} of {len(data.test_labels)} held-out cases right")


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains the breast-cancer example.")
    parser.add_argument("--variant", choices=sorted(VARIANTS), default="plain")
    parser.add_argument("--output", type=Path, default=HERE)
    options = parser.parse_args()
    train(options.variant, options.output)


if __name__ == "__main__":
    main()
