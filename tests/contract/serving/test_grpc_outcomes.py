"""How calls over gRPC end when they do not end well, and that each is counted."""

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from tritonclient.grpc import service_pb2

from contract.serving.conftest import Serve
from contract.serving.grpc_calls import outcome, request, stub
from contract.serving.process import Server, client, until
from contract.serving.test_metrics import samples
from unit.serving import models

LOG = models.unary("Log", shape=["N"])
GOOD = np.array([1, 2], np.float32)
FOREVER = np.array([2_000_000], np.int64)
LONG = np.array([60_000], np.int64)
SHORT = np.array([0], np.int64)


@pytest.fixture
def server(serve: Serve) -> Server:
    return serve(LOG, "--grpc-port", "0", "--max-body-bytes", "1000").ready()


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    yield from client(server)


@pytest.fixture
def slow(serve: Serve) -> Server:
    options = ("--max-concurrency", "1", "--max-queue", "1", "--max-batch-size", "1", "--drain-timeout", "0")
    return serve(models.slow(500), "--grpc-port", "0", *options).ready()


@pytest.fixture
def slow_http(slow: Server) -> Iterator[httpx.Client]:
    yield from client(slow)


def bad_datatype() -> Any:
    return request("m", "x", np.array([1], np.int64))


def counted(http: httpx.Client) -> dict[tuple[str, ...], float]:
    return {key[1:]: value for key, value in samples(http).items() if key[0] == "onceserve_requests_total"}


def inflight(http: httpx.Client) -> float:
    return samples(http)["onceserve_inflight_requests",]


async def until_inflight(http: httpx.Client, number: int) -> None:
    await asyncio.to_thread(until, lambda: inflight(http) == number, f"{number} calls in flight")


async def test_each_refusal_has_its_status_and_words(server: Server) -> None:
    cases = [
        (bad_datatype(), "INVALID_ARGUMENT", "input 'x': datatype 'INT64' given, FP32 expected"),
        (request("m", "z", GOOD), "INVALID_ARGUMENT", "unknown input 'z'; the model has 'x' (FP32 [-1])"),
        (service_pb2.ModelInferRequest(model_name="m"), "INVALID_ARGUMENT", "missing input 'x'"),
        (request("no", "x", GOOD), "NOT_FOUND", "there is no model 'no' here"),
        (request("m", "x", GOOD, model_version="9"), "NOT_FOUND", "model 'm' has no version '9' here"),
        (request("m", "x", -GOOD), "OK", ""),
        (request("m", "x", np.zeros(300, np.float32)), "RESOURCE_EXHAUSTED", "bytes; this server takes 1000"),
        (request("m", "x", np.zeros(1000, np.float32)), "RESOURCE_EXHAUSTED", "larger than max"),
        (request("ü" * 400, "x", GOOD), "NOT_FOUND", "üüü"),
    ]
    async with stub(server.grpc_target()) as calls:
        for asked, status, words in cases:
            found = await outcome(calls.ModelInfer(asked))
            assert found[0] == status, found
            assert words in found[1]
        for method, name in (("ModelReady", "no"), ("ModelMetadata", "no")):
            asked = getattr(service_pb2, f"{method}Request")(name=name)
            assert (await outcome(getattr(calls, method)(asked)))[0] == "NOT_FOUND"
        assert (await outcome(calls.ModelStatistics(service_pb2.ModelStatisticsRequest())))[0] == "UNIMPLEMENTED"


async def test_what_is_no_message_is_refused(server: Server, http: httpx.Client) -> None:
    async with grpc.aio.insecure_channel(server.grpc_target()) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for garbage in (b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x01\xff"):
            assert await outcome(call(garbage)) == ("INVALID_ARGUMENT", "the body is not a ModelInferRequest")
    assert counted(http) == {("400", "grpc"): 3}


async def test_management_calls_are_not_inference(server: Server, http: httpx.Client) -> None:
    async with stub(server.grpc_target()) as calls:
        await calls.ServerReady(service_pb2.ServerReadyRequest())
        await calls.ModelMetadata(service_pb2.ModelMetadataRequest(name="m"))
    assert counted(http) == {}


async def test_a_deadline_ends_a_call_that_queues_without_running_it(slow: Server, slow_http: httpx.Client) -> None:
    async with stub(slow.grpc_target()) as calls:
        running = asyncio.create_task(outcome(calls.ModelInfer(request("m", "n", LONG))))
        await until_inflight(slow_http, 1)
        late = calls.ModelInfer(request("m", "n", SHORT), timeout=0.1)
        assert (await outcome(late))[0] == "DEADLINE_EXCEEDED"
        assert (await running)[0] == "OK"
    await until_inflight(slow_http, 0)
    ends = counted(slow_http)
    assert ends.pop(("200", "grpc")) == 1
    # The client's own clock may be ahead: it then leaves before the server sees that the time is over.
    assert ends in ({("504", "grpc"): 1}, {("499", "grpc"): 1})
    assert samples(slow_http)["onceserve_executions_total",] == 1


async def test_a_call_that_is_cancelled_leaves_the_queue(slow: Server, slow_http: httpx.Client) -> None:
    async with stub(slow.grpc_target()) as calls:
        running = asyncio.create_task(outcome(calls.ModelInfer(request("m", "n", LONG))))
        await until_inflight(slow_http, 1)
        queued = calls.ModelInfer(request("m", "n", SHORT))
        ended = asyncio.create_task(outcome(queued))
        await until_inflight(slow_http, 2)
        queued.cancel()
        assert (await ended)[0] == "CANCELLED"
        await until_inflight(slow_http, 1)
        # Its place is free again: there is room for one alone.
        assert (await outcome(calls.ModelInfer(request("m", "n", SHORT))))[0] == "OK"
        assert (await running)[0] == "OK"
    assert counted(slow_http) == {("200", "grpc"): 2, ("499", "grpc"): 1}
    assert samples(slow_http)["onceserve_executions_total",] == 2


async def test_a_busy_server_tells_when_to_come_back(slow: Server, slow_http: httpx.Client) -> None:
    async with stub(slow.grpc_target()) as calls:
        tasks = []
        for number in (1, 2):
            tasks.append(asyncio.create_task(outcome(calls.ModelInfer(request("m", "n", LONG)))))
            await until_inflight(slow_http, number)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await calls.ModelInfer(request("m", "n", SHORT))
        assert {(await task)[0] for task in tasks} == {"OK"}
    assert refused.value.code().name == "RESOURCE_EXHAUSTED"
    told = dict(refused.value.trailing_metadata())
    status, retry = Status.FromString(told["grpc-status-details-bin"]), RetryInfo()
    assert (status.code, status.message) == (8, refused.value.details())
    assert status.details[0].Unpack(retry)
    assert int(told["grpc-retry-pushback-ms"]) == retry.retry_delay.ToMilliseconds() >= 1000
    assert counted(slow_http)["429", "grpc"] == 1


async def test_a_retrying_client_comes_back_when_it_was_told_to(slow: Server, slow_http: httpx.Client) -> None:
    policy = (
        '{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 5, "initialBackoff": "60s", '
        '"maxBackoff": "60s", "backoffMultiplier": 1, "retryableStatusCodes": ["RESOURCE_EXHAUSTED"]}}]}'
    )
    async with (
        stub(slow.grpc_target()) as calls,
        stub(slow.grpc_target(), options=[("grpc.service_config", policy)]) as retrying,
    ):
        tasks = []
        for number in (1, 2):
            tasks.append(asyncio.create_task(outcome(calls.ModelInfer(request("m", "n", LONG)))))
            await until_inflight(slow_http, number)
        # Without the server's word on it the next attempt would come after the deadline.
        assert (await outcome(retrying.ModelInfer(request("m", "n", SHORT), timeout=20)))[0] == "OK"
        assert {(await task)[0] for task in tasks} == {"OK"}
    assert counted(slow_http)["429", "grpc"] >= 1


async def test_a_model_that_fails_is_an_internal_error(serve: Serve) -> None:
    server = serve(models.reshape_to(1), "--grpc-port", "0").ready()
    url = server.url()
    async with stub(server.grpc_target()) as calls:
        found = await outcome(calls.ModelInfer(request("m", "x", GOOD)))
    assert found[0] == "INTERNAL"
    assert "the model failed on these inputs" in found[1]
    with httpx.Client(base_url=url, trust_env=False) as http:
        assert counted(http) == {("500", "grpc"): 1}
