"""A revision that would refuse a request still gives the answer that the one before gave."""

import httpx
import numpy as np
import pytest
from tritonclient import grpc as tritongrpc
from tritonclient.utils import InferenceServerException

from contract.idempotency.dice import KEY, is_replay, new_key
from contract.serving.conftest import Serve
from contract.serving.process import Server, row
from unit.serving import models

GIVEN = row("x", "FP32", [1.0, 2.0, 3.0], [1, 3])
OTHER = row("x", "FP32", [4.0, 5.0, 6.0], [1, 3])


def revision(serve: Serve, store: str, version: str, width: int) -> Server:
    options = ("--model-version", version, "--idempotency-store", store, "--grpc-port", "0")
    return serve(models.identity(shape=["N", width]), *options).ready()


def post(server: Server, path: str, key: str, body: object = GIVEN) -> httpx.Response:
    return httpx.post(server.url() + path, json=body, headers={KEY: f'"{key}"'}, trust_env=False, timeout=20)


@pytest.mark.parametrize("path", ["/v2/models/m/infer", "/v2/models/m/versions/r1/infer"])
def test_over_http(serve: Serve, store: str, path: str) -> None:
    key = new_key()
    before = revision(serve, store, "r1", 3)
    first = post(before, path, key)
    assert first.status_code == 200
    after = revision(serve, store, "r2", 4)
    again = post(after, path, key)
    assert (again.status_code, again.content, is_replay(again)) == (200, first.content, True)
    assert post(after, path, key, OTHER).status_code == 422
    assert post(after, path, new_key()).status_code in (400, 404)


@pytest.mark.parametrize("version", ["", "r1"])
def test_over_grpc(serve: Serve, store: str, version: str) -> None:
    key = new_key()
    tensor = tritongrpc.InferInput("x", [1, 3], "FP32").set_data_from_numpy(np.ones((1, 3), np.float32))

    def ask(server: Server, key: str) -> bytes:
        with tritongrpc.InferenceServerClient(server.grpc_target()) as client:
            answer = client.infer("m", [tensor], model_version=version, headers={KEY.lower(): key})
            content: bytes = answer.get_response().SerializeToString(deterministic=True)
            return content

    first = ask(revision(serve, store, "r1", 3), key)
    after = revision(serve, store, "r2", 4)
    assert ask(after, key) == first
    with pytest.raises(InferenceServerException, match=r"expected|no version"):
        ask(after, new_key())
