import html
import re
import shlex

import orjson
import pytest

from onceserve_serving.api import page
from onceserve_serving.codec import json
from onceserve_serving.engine import ort
from onceserve_serving.engine.runner import Runner, warm_up
from onceserve_serving.engine.thread import InferenceThread
from onceserve_serving.lifecycle import Lifecycle
from onceserve_serving.served import ServedModel
from unit.serving import models


def served(content: bytes | None) -> ServedModel:
    model = ServedModel("risk", "1", Lifecycle())
    if content:
        engine = ort.load(content, 1)
        model.install(Runner(engine, InferenceThread(), warm_up(engine)))
    return model


def command(model: ServedModel, host: str = "box:8080") -> list[str]:
    found = re.search(r"<pre>(.*?)</pre>", page.render(model, host), re.DOTALL)
    assert found
    return shlex.split(html.unescape(found[1]))


@pytest.mark.parametrize("content", [models.identity(), models.every_datatype(), models.addition()])
def test_the_command_carries_a_request_that_the_model_takes(content: bytes) -> None:
    model = served(content)
    assert model.signature
    words = command(model)
    assert words[:2] == ["curl", "http://box:8080/v2/models/risk/infer"]
    assert json.decode(words[-1].encode(), model.signature).inputs.keys() == model.signature.inputs.keys()


@pytest.mark.parametrize("content", [None, models.identity(shape=["N", 1_001])])
def test_without_a_short_example_the_command_asks_for_the_metadata(content: bytes | None) -> None:
    assert command(served(content)) == ["curl", "http://box:8080/v2/models/risk"]


@pytest.mark.parametrize("host", ["", "<script>", "a b", "x'y"])
def test_a_host_that_is_none_is_not_repeated(host: str) -> None:
    assert command(served(models.identity()), host)[1] == "http://localhost/v2/models/risk/infer"


def test_the_example_is_json() -> None:
    signature = served(models.every_datatype()).signature
    assert signature
    assert orjson.dumps(page.example(signature))
