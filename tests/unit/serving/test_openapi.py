from typing import Any

import grpc
import orjson
import pytest

from onceserve_serving import app
from onceserve_serving.api.problems import KINDS, problem_of
from onceserve_serving.auth.gate import OPEN_PATHS
from onceserve_serving.codec import rest
from onceserve_serving.errors import OverloadedError
from onceserve_serving.health import Health
from onceserve_serving.lifecycle import Lifecycle
from onceserve_serving.telemetry import Telemetry
from unit.serving import models
from unit.serving.serving import repository_of
from unit.serving.test_page import served


def document(*contents: bytes | None, keys: bool = False) -> dict[str, Any]:
    repository = repository_of(*(served(content, f"m{index}") for index, content in enumerate(contents)))
    health = Health(repository, Lifecycle(), inference_deadline=1, smoke_deadline=1)
    return app.Management(repository, health, Telemetry(), keys=keys).openapi()


def test_every_loaded_model_has_its_route() -> None:
    paths = document(models.identity(), None, models.addition())["paths"]
    assert [path for path in paths if path.endswith("/infer")] == ["/v2/models/m0/infer", "/v2/models/m2/infer"]


@pytest.mark.parametrize("content", [models.identity(), models.every_datatype(), models.addition(), models.slow(1)])
def test_the_example_is_what_the_model_takes(content: bytes) -> None:
    asked = document(content)["paths"]["/v2/models/m0/infer"]["post"]["requestBody"]["content"]["application/json"]
    signature = served(content).runner().signature
    assert rest.decode(orjson.dumps(asked["example"]), None, signature).inputs.keys() == signature.inputs.keys()
    assert asked["schema"]["properties"]["inputs"]["minItems"] == len(signature.inputs)


def test_what_json_cannot_carry_is_documented_as_bytes() -> None:
    post = document(models.every_datatype("FP16"))["paths"]["/v2/models/m0/infer"]["post"]
    assert list(post["requestBody"]["content"]) == ["application/octet-stream"]


def test_no_route_documents_the_frameworks_own_refusal() -> None:
    found = document(models.identity())
    assert "ValidationError" not in str(found)
    responses = found["paths"]["/v2/repository/models/{name}/load"]["post"]["responses"]
    assert {"400", "403", "404", "413", "422"} <= {str(status) for status in responses}


def test_every_refusal_of_the_infer_route_is_documented() -> None:
    responses = document(models.identity())["paths"]["/v2/models/m0/infer"]["post"]["responses"]
    assert responses.keys() == {
        *["200", "400", "404", "405", "409", "410", "413", "415", "422", "429", "500", "503", "504"]
    }


def test_with_keys_each_operation_tells_so_but_those_that_are_open() -> None:
    found = document(models.identity(), keys=True)
    assert found["security"] == [{name: []} for name in found["components"]["securitySchemes"]]
    for path, methods in found["paths"].items():
        for operation in methods.values():
            is_open = path in OPEN_PATHS
            assert operation.get("security") == ([] if is_open else None)
            assert ("401" in operation["responses"]) is not is_open


def test_without_keys_nothing_tells_of_them() -> None:
    found = str(document(models.identity()))
    assert "API key" not in found
    assert "security" not in found


@pytest.mark.parametrize("error", KINDS)
def test_every_kind_of_error_names_a_status_of_grpc(error: type[Exception]) -> None:
    assert KINDS[error].grpc in grpc.StatusCode.__members__
    assert KINDS[error].title


@pytest.mark.parametrize(("seconds", "told"), [(0.0, "1"), (0.2, "1"), (1.01, "2"), (30, "30")])
def test_who_is_turned_away_is_told_when_to_come_back(seconds: float, told: str) -> None:
    assert problem_of(OverloadedError("busy", seconds)).headers["Retry-After"] == told
