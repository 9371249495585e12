"""The chart with several sets of values, as it comes out."""

import re
from pathlib import Path

import pytest
import yaml

from support.golden import Golden
from support.helm import Helm

_GENERATED = re.compile(r"secret: [A-Za-z0-9]{64}$", re.MULTILINE)
CASES = sorted(path.parent for path in Path(__file__).parent.glob("*/values.yaml"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_render(case: Path, helm: Helm, golden: Golden) -> None:
    values = yaml.safe_load((case / "values.yaml").read_text())
    # The definition is generated, and compared with its source elsewhere; here it would only bury the rest.
    rendered = helm.template(values, "--set", "crds.install=false")
    golden.check(case / "expected.yaml", _GENERATED.sub("secret: GENERATED", rendered))
