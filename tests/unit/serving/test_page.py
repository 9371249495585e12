import html
import re
import shlex
from typing import Any

import orjson
import pytest
from onnx import TensorProto

from onceserve_serving.api import examples, page
from onceserve_serving.codec import rest
from onceserve_serving.engine import ort
from onceserve_serving.engine.runner import Runner, warm_up
from onceserve_serving.engine.thread import InferenceThread
from onceserve_serving.served import ServedModel
from unit.serving import models

HALF = TensorProto.FLOAT16


def served(content: bytes | None, name: str = "risk") -> ServedModel:
    model = ServedModel(name, "1")
    if content:
        engine = ort.load(content, 1)
        model.install(Runner(engine, InferenceThread(), warm_up(engine)))
    return model


def commands(*served_models: ServedModel, host: str = "box:8080") -> list[list[str]]:
    found = re.findall(r"<pre>(.*?)</pre>", page.render(list(served_models), "ready", "http", host), re.DOTALL)
    return [shlex.split(html.unescape(one)) for one in found]


@pytest.mark.parametrize("content", [models.identity(), models.every_datatype(), models.addition(), models.slow(1)])
def test_the_command_carries_a_request_that_the_model_takes(content: bytes) -> None:
    model = served(content)
    assert model.signature
    [words] = commands(model)
    assert words[:2] == ["curl", "http://box:8080/v2/models/risk/infer"]
    assert rest.decode(words[-1].encode(), None, model.signature).inputs.keys() == model.signature.inputs.keys()


@pytest.mark.parametrize(
    "content",
    [
        models.identity(shape=["N", 1_001]),
        models.identity(HALF),
        models.convolution(),
        models.every_datatype("FP16"),
    ],
)
def test_what_json_cannot_carry_goes_as_zeros_from_a_device(content: bytes) -> None:
    runner = served(content).runner()
    document, zeros = examples.of(runner)
    header = orjson.dumps(document)
    request = rest.decode(header + bytes(zeros), len(header), runner.signature)
    assert all(not any(array.ravel()) for array in request.inputs.values())
    assert f"head -c {zeros} /dev/zero" in examples.command(runner, "http://box")
    assert f"Inference-Header-Content-Length: {len(header)}" in examples.command(runner, "http://box")


def test_only_answers_that_json_can_carry_are_asked_for_if_there_are_any() -> None:
    def asked(content: bytes) -> dict[str, Any]:
        return examples.of(served(content).runner()).document

    assert "outputs" not in asked(models.every_datatype())
    assert {"name": "out-FP16"} not in asked(models.every_datatype("FP16"))["outputs"]
    assert asked(models.identity(HALF))["parameters"] == {"binary_data_output": True}


def test_every_model_has_its_own_command() -> None:
    found = commands(served(models.identity(), "a"), served(models.addition(), "b"), served(None, "c"))
    assert [words[1] for words in found] == [
        "http://box:8080/v2/models/a/infer",
        "http://box:8080/v2/models/b/infer",
        "http://box:8080/v2/models/c",
    ]


@pytest.mark.parametrize("host", ["", "<script>", "a b", "x'y"])
def test_a_host_that_is_none_is_not_repeated(host: str) -> None:
    [words] = commands(served(models.identity()), host=host)
    assert words[1] == "http://localhost/v2/models/risk/infer"


@pytest.mark.parametrize("content", [models.identity(), models.convolution(), None])
def test_where_callers_need_keys_the_command_carries_one(content: bytes | None) -> None:
    text = html.unescape(page.render([served(content)], "ready", "http", "box", keys=True))
    [command] = re.findall(r"<pre>(.*?)</pre>", text, re.DOTALL)
    assert '-H "X-API-Key: $KEY"' in command
