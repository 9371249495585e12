import re

import pytest

from onceserve_operator import quantities
from onceserve_serving.settings import Settings
from support.modeldeployments import SPEC_SCHEMA


@pytest.mark.parametrize(
    ("part", "field", "setting"),
    [
        ("batching", "maxBatchSize", "max_batch_size"),
        ("batching", "maxDelay", "max_delay"),
        ("admission", "maxConcurrency", "max_concurrency"),
        ("admission", "maxQueue", "max_queue"),
        ("admission", "timeout", "timeout"),
    ],
)
def test_the_defaults_that_the_resource_names_are_the_server_s(part: str, field: str, setting: str) -> None:
    named = re.search(r"Default: (\w+)", SPEC_SCHEMA["properties"][part]["properties"][field]["description"])
    assert named is not None
    value = int(named[1]) if named[1].isdigit() else quantities.seconds(named[1])
    assert value == Settings.model_fields[setting].default
