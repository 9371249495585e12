import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks import payloads
from benchmarks.errors import UnservedError
from benchmarks.models import Array, Model
from benchmarks.payloads import Form, Reply, Style

OUTPUT = {"name": "y", "shape": [1, 2], "datatype": "FP32"}


@pytest.fixture
def model() -> Model:
    return Model("m", Path("m.onnx"), np.array([[0.1, 2, 3]], np.float32), np.array([[0.5, 1]], np.float32))


def v2(values: Array) -> Reply:
    return Reply(200, {}, json.dumps({"outputs": [OUTPUT | {"data": values.ravel().tolist()}]}).encode())


def binary(values: Array) -> Reply:
    tensor = OUTPUT | {"parameters": {"binary_data_size": values.nbytes}}
    header = json.dumps({"outputs": [tensor]}).encode()
    headers = {"inference-header-content-length": str(len(header))}
    return Reply(200, headers, header + values.astype("<f4").tobytes())


def plain(values: Array) -> Reply:
    return Reply(200, {}, json.dumps({"y": values.tolist()}).encode())


def bare(values: Array) -> Reply:
    return Reply(200, {}, json.dumps(values.tolist()).encode())


def test_a_binary_request_has_its_json_first_and_says_how_long_that_is(model: Model) -> None:
    payload = payloads.request(model, Style.V2, Form.BINARY)

    length = int(payload.headers["Inference-Header-Content-Length"])
    header = json.loads(payload.body[:length])
    assert header["inputs"] == [
        {"name": "x", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": 12}}
    ]
    assert payload.body[length:] == model.value.tobytes()


def test_json_requests_carry_the_values_flat_or_nested(model: Model) -> None:
    flat = json.loads(payloads.request(model, Style.V2, Form.JSON).body)
    nested = json.loads(payloads.request(model, Style.PLAIN, Form.JSON).body)

    assert flat["inputs"][0]["data"] == [0.1, 2.0, 3.0]
    assert nested == {"x": [[0.1, 2.0, 3.0]]}


@pytest.mark.parametrize(
    ("style", "written"), [(Style.V2, v2), (Style.V2, binary), (Style.PLAIN, plain), (Style.PLAIN, bare)]
)
def test_right_answers_pass_and_wrong_ones_do_not(
    model: Model, style: Style, written: Callable[[Array], Reply]
) -> None:
    payloads.check(model, written(model.expected), style)

    with pytest.raises(UnservedError, match="answers wrongly"):
        payloads.check(model, written(model.expected + 1), style)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(415, {}, b"no binary here"), "answers 415: no binary here"),
        (Reply(200, {}, b"<html>"), "cannot be read"),
        (Reply(200, {}, b'{"outputs": []}'), "cannot be read"),
    ],
)
def test_other_answers_are_told(model: Model, reply: Reply, words: str) -> None:
    with pytest.raises(UnservedError, match=words):
        payloads.check(model, reply, Style.V2)
