"""Each example, as the operator turns it into objects and status.

These files also show that a release restarts nobody's pods: names of revisions and pod templates must not change for a
spec that has not.
"""

from pathlib import Path

import pytest
import yaml

from support.golden import Golden
from support.worlds import World

EXAMPLES = Path(__file__).parents[3] / "examples"
CASES = sorted(path for path in EXAMPLES.rglob("*.yaml") if "kind: ModelDeployment" in path.read_text())


@pytest.mark.parametrize("example", CASES, ids=lambda path: "-".join(path.relative_to(EXAMPLES).with_suffix("").parts))
def test_example(example: Path, golden: Golden, request: pytest.FixtureRequest) -> None:
    world = World.of_file(example)
    created = world.reconcile()
    pending = world.resource["status"]
    world.pods(created.step.target.name, ready=world.planned().step.replicas[created.step.target.name])
    world.settle()
    moments = {
        "children": list(created.children),
        "status when created": pending,
        "status when serving": world.resource["status"],
        "events": [f"{event.reason}: {event.message}" for event in world.events],
    }
    name = request.node.callspec.id
    golden.check(Path(__file__).parent / f"{name}.yaml", yaml.safe_dump(moments, sort_keys=False, width=120))
