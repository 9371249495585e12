"""Server reflection, by gRPC's own package."""

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

from onceserve_serving.proto import open_inference_pb2

if TYPE_CHECKING:
    from onceserve_serving.api.grpc.errors import Context


async def answers(services: Sequence[str], asked: AsyncIterator[bytes], context: "Context") -> AsyncIterator[bytes]:
    """Answer a stream of questions about these services."""
    servicer = ReflectionServicer(services, _pool())
    async for answer in servicer.ServerReflectionInfo(_parsed(asked), context):
        yield answer.SerializeToString()


async def _parsed(asked: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    async for one in asked:
        yield reflection_pb2.ServerReflectionRequest.FromString(one)


def _pool() -> DescriptorPool:
    # Our messages are in a pool of their own, gRPC's in the default one.
    pool = DescriptorPool()
    for file in (open_inference_pb2, health_pb2, reflection_pb2):
        pool.AddSerializedFile(file.DESCRIPTOR.serialized_pb)
    return pool
