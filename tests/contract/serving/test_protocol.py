import html
import json
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
import pytest

from contract.serving.conftest import EXAMPLE
from onceserve_contract.http import SERVED_BY_HEADER

CASES = json.loads((EXAMPLE / "test-set.json").read_text())
ROWS = np.array(CASES["rows"], dtype=np.float32)


def ask(client: httpx.Client, rows: Any, path: str = "/v2/models/risk/infer", **rest: Any) -> dict[str, Any]:
    tensor = {"name": "X", "datatype": "FP32", "shape": list(np.shape(rows)), "data": np.asarray(rows).tolist()}
    response = client.post(path, json={"inputs": [tensor], **rest})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def session(path: Path = EXAMPLE / "model.onnx") -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("size", [1, 7, len(ROWS)])
def test_answers_are_onnxruntimes_bit_for_bit(example: httpx.Client, size: int) -> None:
    answer = ask(example, ROWS[:size])
    labels, probabilities = session().run(None, {"X": ROWS[:size]})
    assert [one["name"] for one in answer["outputs"]] == ["label", "probabilities"]
    assert answer["outputs"][0]["data"] == labels.tolist()
    assert answer["outputs"][1]["shape"] == [size, 2]
    assert np.array(answer["outputs"][1]["data"], dtype=np.float32).tobytes() == probabilities.tobytes()


def test_outputs_select_and_order_and_the_id_comes_back(example: httpx.Client) -> None:
    answer = ask(example, ROWS[:1], id="q-1", outputs=[{"name": "probabilities"}, {"name": "label"}])
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("q-1", "risk", "r1")
    assert [one["name"] for one in answer["outputs"]] == ["probabilities", "label"]


def test_a_version_may_be_named(example: httpx.Client) -> None:
    assert ask(example, ROWS[:1], "/v2/models/risk/versions/r1/infer") == ask(example, ROWS[:1])


def test_nested_rows_are_answered_as_flat_ones(example: httpx.Client) -> None:
    tensor = {"name": "X", "datatype": "FP32", "shape": [2, 30], "data": ROWS[:2].tolist()}
    flat = {**tensor, "data": ROWS[:2].ravel().tolist()}
    answers = [example.post("/v2/models/risk/infer", json={"inputs": [one]}).content for one in (tensor, flat)]
    assert answers[0] == answers[1]


def test_every_datatype_comes_back_as_it_went(datatypes: httpx.Client) -> None:
    values: dict[str, list[Any]] = {
        "BOOL": [True, False],
        "UINT64": [0, 2**64 - 1],
        "INT64": [-(2**63), 2**63 - 1],
        "FP32": [0.1, -3.4028235e38],
        "FP64": [0.1, 5e-324],
        "BYTES": ["", "é\0🎈"],
    }
    metadata = datatypes.get("/v2/models/m").json()
    inputs = [{**one, "shape": [2], "data": values.get(one["datatype"], [0, 127])} for one in metadata["inputs"]]
    answer = datatypes.post("/v2/models/m/infer", json={"inputs": inputs}).json()
    assert [one["data"] for one in answer["outputs"]] == [one["data"] for one in inputs]
    assert [one["datatype"] for one in answer["outputs"]] == [one["datatype"] for one in inputs]


@pytest.mark.parametrize("path", ["/v2/models/risk", "/v2/models/risk/versions/r1"])
def test_metadata_is_the_models_signature(example: httpx.Client, path: str) -> None:
    assert example.get(path).json() == {
        "name": "risk",
        "versions": ["r1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "X", "datatype": "FP32", "shape": [-1, 30]}],
        "outputs": [
            {"name": "label", "datatype": "INT64", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]},
        ],
    }


def test_the_server_says_what_it_is(example: httpx.Client) -> None:
    assert example.get("/v2").json() == {
        "name": "onceserve",
        "version": version("onceserve"),
        "extensions": ["binary_tensor_data", "model_repository"],
    }


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/risk/ready", {"name": "risk", "ready": True}),
        ("/v2/models/risk/versions/r1/ready", {"name": "risk", "ready": True}),
    ],
)
def test_a_ready_server_says_so(example: httpx.Client, path: str, answer: dict[str, Any]) -> None:
    response = example.get(path)
    assert (response.status_code, response.json()) == (200, answer)


@pytest.mark.parametrize("path", ["/", "/v2", "/metrics", "/docs", "/openapi.json", "/nope", "/v2/models/no/infer"])
def test_every_answer_names_the_pod(example: httpx.Client, path: str) -> None:
    assert example.get(path).headers.get_list(SERVED_BY_HEADER) == ["pod-7"]


def test_the_page_has_a_command_that_works(example: httpx.Client) -> None:
    found = re.search(r"<pre>(.*?)</pre>", example.get("/").text, re.DOTALL)
    assert found
    command = html.unescape(found[1])
    assert command.startswith("curl http")
    answer = subprocess.run(["bash", "-c", f"{command} --noproxy '*' -sf"], capture_output=True, check=True)
    assert json.loads(answer.stdout)["model_name"] == "risk"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("POST", "/v2", 405),
        ("GET", "/v2/models/other", 404),
        ("GET", "/v2/models/risk/versions/r2", 404),
        ("GET", "/v2/models/other/ready", 404),
        ("GET", "/v2/models/risk/infer", 405),
        ("PUT", "/v2/models/risk/infer", 405),
        ("POST", "/v2/models/other/infer", 404),
        ("POST", "/v2/models/risk/versions/r2/infer", 404),
        ("POST", "/v2/models/risk%2Finfer/infer", 404),
        ("HEAD", "/v2/models/risk/infer", 405),
        ("HEAD", "/v2/repository/index", 405),
        ("HEAD", "/nope", 404),
        ("OPTIONS", "/nope", 404),
        ("GET", "/v2/repository/index", 405),
        ("POST", "/v2/repository/models/risk/load", 403),
        ("POST", "/v2/repository/models/risk/unload", 403),
    ],
)
def test_every_error_is_a_problem(example: httpx.Client, method: str, path: str, status: int) -> None:
    response = example.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert ("allow" in response.headers) == (status == 405)
    if method != "HEAD":
        problem = response.json()
        assert problem["status"] == status
        assert problem["error"] == problem["detail"] != ""


@pytest.mark.parametrize("path", ["/", "/v2", "/v2/health/ready", "/v2/models/risk", "/metrics", "/openapi.json"])
def test_head_is_get_without_the_body(example: httpx.Client, path: str) -> None:
    got, head = example.get(path), example.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == got.headers["content-type"]


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v2", "GET, HEAD, OPTIONS"),
        ("/v2/models/risk/ready", "GET, HEAD, OPTIONS"),
        ("/v2/models/risk/infer", "POST, OPTIONS"),
        ("/v2/repository/index", "POST, OPTIONS"),
    ],
)
def test_a_path_tells_its_methods(example: httpx.Client, path: str, methods: str) -> None:
    options = example.options(path)
    assert (options.status_code, options.headers["allow"], options.content) == (204, methods, b"")
    assert example.delete(path).headers["allow"] == methods


def test_the_document_has_an_example_that_works(example: httpx.Client) -> None:
    document = example.get("/openapi.json").json()
    asked = document["paths"]["/v2/models/risk/infer"]["post"]["requestBody"]["content"]["application/json"]
    answer = example.post("/v2/models/risk/infer", json=asked["example"])
    assert (answer.status_code, answer.json()["model_name"]) == (200, "risk")
