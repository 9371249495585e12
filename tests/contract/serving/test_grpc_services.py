"""gRPC's own services beside inference: health, reflection, keys."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from contract.serving.conftest import Serve
from contract.serving.grpc_calls import outcome, request, stub
from contract.serving.process import Server
from onceserve_serving.proto import open_inference_pb2
from unit.serving import models

SERVICE = "inference.GRPCInferenceService"
SERVING, NOT_SERVING, UNKNOWN = 1, 2, 3


def health(channel: Any) -> Any:
    return health_pb2_grpc.HealthStub(channel)


def asked(service: str = "") -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=service)


@pytest.fixture
def server(serve: Serve) -> Server:
    return serve(models.identity(), "--grpc-port", "0", "--drain-delay", "60").ready()


async def test_health_is_known_for_the_server_the_service_and_each_model(server: Server) -> None:
    async with grpc.aio.insecure_channel(server.grpc_target()) as channel:
        for name in ("", SERVICE, "m"):
            assert (await health(channel).Check(asked(name))).status == SERVING
        found = await outcome(health(channel).Check(asked("no")))
        assert found == ("NOT_FOUND", "there is no service and no model 'no' here")
        async for answer in health(channel).Watch(asked("no")):
            assert answer.status == UNKNOWN
            break


async def test_who_watches_learns_of_the_drain_while_calls_are_answered(server: Server) -> None:
    async with grpc.aio.insecure_channel(server.grpc_target()) as channel, stub(server.grpc_target()) as calls:
        watches = [health(channel).Watch(asked(name)) for name in ("", "m")]
        assert [(await watch.read()).status for watch in watches] == [SERVING] * 2
        server.signal()
        assert [(await watch.read()).status for watch in watches] == [NOT_SERVING] * 2
        assert (await health(channel).Check(asked())).status == NOT_SERVING
        assert (await outcome(calls.ModelInfer(request("m", "x", np.zeros([1, 3], np.float32)))))[0] == "OK"
        server.signal()
        assert await asyncio.to_thread(server.wait, 5) == 0


async def test_a_watch_does_not_hold_up_the_stop(serve: Serve) -> None:
    server = serve(models.identity(), "--grpc-port", "0").ready()
    async with grpc.aio.insecure_channel(server.grpc_target()) as channel:
        watch = health(channel).Watch(asked())
        assert (await watch.read()).status == SERVING
        server.signal()
        assert (await watch.read()).status == NOT_SERVING
        assert await watch.read() is grpc.aio.EOF
        assert await asyncio.to_thread(server.wait, 10) == 0


def test_a_client_learns_the_protocol_from_the_server(server: Server) -> None:
    with grpc.insecure_channel(server.grpc_target()) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert set(database.get_services()) == {
            SERVICE,
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }
        service = DescriptorPool(database).FindServiceByName(SERVICE)
    ours = open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert [one.name for one in service.methods] == [one.name for one in ours.methods]
    assert service.file.serialized_pb == ours.file.serialized_pb


async def test_keys_are_asked_for_where_they_are_in_use(serve: Serve, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"team: sha256:{hashlib.sha256(b'secret').hexdigest()}\n")
    server = serve(models.identity(), "--grpc-port", "0", "--api-keys", str(keys)).ready()
    given = request("m", "x", np.zeros([1, 3], np.float32))
    async with grpc.aio.insecure_channel(server.grpc_target()) as channel, stub(server.grpc_target()) as calls:
        assert (await outcome(calls.ModelInfer(given)))[0] == "UNAUTHENTICATED"
        assert (await outcome(calls.ModelInfer(given, metadata=[("x-api-key", "wrong")])))[0] == "UNAUTHENTICATED"
        assert (await outcome(calls.ModelInfer(given, metadata=[("authorization", "Bearer secret")])))[0] == "OK"
        assert (await health(channel).Check(asked())).status == SERVING
        reflection = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        # Nothing is asked: the refusal does not wait for a question, and would race with one.
        assert (await outcome(reflection().read()))[0] == "UNAUTHENTICATED"
