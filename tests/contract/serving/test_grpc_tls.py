"""gRPC's clients over TLS, with certificates and API keys of their own, unchanged."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException

from contract.serving.conftest import EXAMPLE, Serve
from contract.serving.grpc_calls import outcome, request
from contract.serving.process import Server
from onceserve_serving.auth import keys
from support.certificates import Authority, Pair
from support.secrets import MountedSecret

OURS, OTHER = Authority(), Authority("another authority")
SERVED, CALLER, STRANGER = OURS.issue(), OURS.issue("caller"), OTHER.issue("stranger")
KEY = keys.new_key()
ROWS = np.ones([1, 30], np.float32)


def secret_of(client_ca: Authority) -> dict[str, str | bytes]:
    return {"tls.crt": SERVED.cert, "tls.key": SERVED.key, "ca.crt": client_ca.cert}


@pytest.fixture
def secret(tmp_path: Path) -> MountedSecret:
    mounted = MountedSecret(tmp_path)
    mounted.write(secret_of(OURS))
    return mounted


@pytest.fixture
def server(serve: Serve, secret: MountedSecret, tmp_path: Path) -> Server:
    (tmp_path / "keys").write_text(keys.line_of(KEY, "ann"))
    files = {"--tls-cert": "tls.crt", "--tls-key": "tls.key", "--tls-client-ca": "ca.crt"}
    options = [str(word) for option, name in files.items() for word in (option, secret.path / name)]
    options += ["--api-keys", str(tmp_path / "keys"), "--grpc-port", "0"]
    return serve(EXAMPLE / "model.onnx", "--name", "risk", *options).ready()


def tritons(directory: Path, pair: Pair) -> dict[str, Any]:
    """How Triton's clients are told to speak TLS: by files."""
    (directory / "ca.crt").write_bytes(OURS.cert)
    cert, key = pair.write(directory, pair.serial)
    return {
        "ssl": True,
        "root_certificates": str(directory / "ca.crt"),
        "certificate_chain": str(cert),
        "private_key": str(key),
    }


def given() -> list[Any]:
    return [triton.InferInput("X", ROWS.shape, "FP32").set_data_from_numpy(ROWS)]


def channel(server: Server, pair: Pair) -> grpc.aio.Channel:
    credentials = grpc.ssl_channel_credentials(OURS.cert, pair.key, pair.cert)
    # Channels with the same arguments would share their connections.
    return grpc.aio.secure_channel(server.grpc_target(), credentials, [("grpc.use_local_subchannel_pool", 1)])


async def ask(over: grpc.aio.Channel, key: str = KEY) -> tuple[str, str]:
    stub = service_pb2_grpc.GRPCInferenceServiceStub(over)
    call = stub.ModelInfer(request("risk", "X", ROWS), metadata=[("authorization", f"Bearer {key}")], timeout=20)
    return await outcome(call)


def test_tritons_client_takes_a_certificate_and_a_key(server: Server, tmp_path: Path) -> None:
    with triton.InferenceServerClient(server.grpc_target(), **tritons(tmp_path, CALLER)) as client:
        assert client.is_server_live()
        result = client.infer("risk", given(), headers={"x-api-key": KEY})
        assert result.as_numpy("probabilities").shape == (1, 2)
        for headers in (None, {"x-api-key": keys.new_key()}):
            with pytest.raises(InferenceServerException, match="UNAUTHENTICATED"):
                client.infer("risk", given(), headers=headers)
    with (
        triton.InferenceServerClient(server.grpc_target(), **tritons(tmp_path, STRANGER)) as stranger,
        pytest.raises(InferenceServerException, match="UNAVAILABLE"),
    ):
        stranger.infer("risk", given(), headers={"x-api-key": KEY})


async def test_tritons_asyncio_client_as_well(server: Server, tmp_path: Path) -> None:
    async with triton_aio.InferenceServerClient(server.grpc_target(), **tritons(tmp_path, CALLER)) as client:
        result = await client.infer("risk", given(), headers={"authorization": f"Bearer {KEY}"})
        assert result.as_numpy("probabilities").shape == (1, 2)
        with pytest.raises(InferenceServerException, match="UNAUTHENTICATED"):
            await client.infer("risk", given())


async def test_authorities_are_renewed_for_new_connections_and_open_ones_go_on(
    server: Server, secret: MountedSecret
) -> None:
    async with channel(server, CALLER) as opened:
        assert (await ask(opened))[0] == "OK"
        assert (await answered(server, STRANGER))[0] == "UNAVAILABLE"
        secret.write(secret_of(OTHER))
        async with asyncio.timeout(20):
            while (await answered(server, STRANGER))[0] != "OK":
                assert (await ask(opened))[0] == "OK"
        assert (await answered(server, CALLER))[0] == "UNAVAILABLE"
        assert (await ask(opened))[0] == "OK"
        assert (await ask(opened, keys.new_key()))[0] == "UNAUTHENTICATED"


async def answered(server: Server, pair: Pair) -> tuple[str, str]:
    async with channel(server, pair) as new:
        return await ask(new)
