"""What Triton's clients can ask of Triton alone is refused in words, and at once."""

import queue
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from contract.serving.conftest import Serve
from contract.serving.grpc_calls import outcome
from contract.serving.process import Server
from unit.serving import models

CALLS: dict[str, Callable[[Any], Any]] = {
    "configuration": lambda client: client.get_model_config("m"),
    "statistics": lambda client: client.get_inference_statistics(),
    "statistics of a model": lambda client: client.get_inference_statistics("m"),
    "shared memory": lambda client: client.get_system_shared_memory_status(),
    "CUDA shared memory": lambda client: client.get_cuda_shared_memory_status(),
    "traces": lambda client: client.get_trace_settings(),
    "logs": lambda client: client.get_log_settings(),
}


@pytest.fixture(scope="module")
def server(module_serve: Serve) -> Server:
    return module_serve(models.identity(), "--grpc-port", "0").ready()


@pytest.fixture(scope="module")
def over_http(server: Server) -> Iterator[Any]:
    with triton_http.InferenceServerClient(server.url().removeprefix("http://")) as client:
        yield client


@pytest.fixture(scope="module")
def over_grpc(server: Server) -> Iterator[Any]:
    with triton_grpc.InferenceServerClient(server.grpc_target()) as client:
        yield client


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_over_http_with_the_path(over_http: Any, call: Callable[[Any], Any]) -> None:
    words = r"there is no ('/v2/.*' here; /docs shows what there is|model 'stats' here)"
    with pytest.raises(InferenceServerException, match=words) as caught:
        call(over_http)
    assert caught.value.status() == "404"


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_over_grpc_with_the_method(over_grpc: Any, call: Callable[[Any], Any]) -> None:
    with pytest.raises(InferenceServerException, match=r"there is no method '/inference\..*' here") as caught:
        call(over_grpc)
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"


def test_over_grpc_a_stream_of_inferences(over_grpc: Any) -> None:
    errors: queue.Queue[Any] = queue.Queue()
    over_grpc.start_stream(callback=lambda result, error: errors.put((result, error)))
    result, error = errors.get(timeout=10)
    over_grpc.stop_stream()
    assert result is None
    assert "there is no method '/inference.GRPCInferenceService/ModelStreamInfer' here" in str(error)


async def test_who_opens_a_stream_and_sends_nothing_is_not_left_waiting(server: Server) -> None:
    async with grpc.aio.insecure_channel(server.grpc_target()) as channel:
        call = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")(timeout=10)
        assert (await outcome(call.read()))[0] == "UNIMPLEMENTED"


def test_a_path_that_there_is_not_is_a_problem(server: Server) -> None:
    answer = httpx.get(f"{server.url()}/v2/models/m/config", trust_env=False)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert answer.json()["type"] == "urn:onceserve:problem:unknown-path"
