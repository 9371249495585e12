import hashlib
from pathlib import Path

import yaml

EXAMPLE = Path(__file__).parents[2] / "examples" / "breast-cancer"


def test_the_example_names_the_digest_of_the_model_beside_it() -> None:
    spec = yaml.safe_load((EXAMPLE / "modeldeployment.yaml").read_text())["spec"]
    assert hashlib.sha256((EXAMPLE / "model.onnx").read_bytes()).hexdigest() == spec["model"]["sha256"]
