"""Calls over gRPC as tests make them, with the messages of a real client."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import np_to_triton_dtype, serialize_byte_tensor


def request(model: str, name: str, array: np.ndarray[Any, Any], **more: Any) -> Any:
    """Return an inference request of one input as raw bytes."""
    raw = serialize_byte_tensor(array).item() if array.dtype == object else array.tobytes()
    tensor = {"name": name, "datatype": np_to_triton_dtype(array.dtype), "shape": array.shape}
    return service_pb2.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[raw], **more)


@asynccontextmanager
async def stub(*targets: str, options: Sequence[tuple[str, Any]] = ()) -> AsyncIterator[Any]:
    """Yield the client's stub for one address or for several that stand for one service."""
    address = targets[0] if len(targets) == 1 else "ipv4:" + ",".join(targets)
    # Channels of one process share their connections otherwise.
    async with grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1), *options]) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


async def outcome(call: Any) -> tuple[str, str]:
    """Return the name of the status and the message with which a call ends."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code().name, error.details()
    except asyncio.CancelledError:
        return "CANCELLED", ""
    return "OK", ""
