"""TLS on both ports: served, renewed, and with certificates of clients."""

import asyncio
import ssl
import time
from pathlib import Path

import grpc
import httpx
import pytest

from contract.serving.conftest import EXAMPLE, Serve
from contract.serving.process import Server, row
from support.certificates import Authority, Pair
from support.secrets import MountedSecret

AUTHORITY = Authority()
FIRST, SECOND, CALLER = AUTHORITY.issue(), AUTHORITY.issue(), AUTHORITY.issue("caller")
STRANGER = Authority("stranger").issue("stranger")
INFER = "/v2/models/risk/infer"
BODY = row("X", "FP32", [1] * 30, [1, 30])
LIVE = "/inference.GRPCInferenceService/ServerLive"


def secret_of(pair: Pair) -> dict[str, str | bytes]:
    return {"tls.crt": pair.cert, "tls.key": pair.key, "ca.crt": AUTHORITY.cert}


@pytest.fixture
def secret(tmp_path: Path) -> MountedSecret:
    mounted = MountedSecret(tmp_path)
    mounted.write(secret_of(FIRST))
    return mounted


def start(serve: Serve, secret: MountedSecret, *options: str) -> Server:
    files = ("--tls-cert", str(secret.path / "tls.crt"), "--tls-key", str(secret.path / "tls.key"))
    return serve(EXAMPLE / "model.onnx", "--name", "risk", "--grpc-port", "0", *files, *options).ready()


def trusting(directory: Path | None = None, pair: Pair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=AUTHORITY.cert.decode())
    if directory is not None and pair is not None:
        context.load_cert_chain(*pair.write(directory, pair.serial))
    return context


def client(server: Server, context: ssl.SSLContext) -> httpx.AsyncClient:
    # By address: the server listens on IPv4 alone, and a try of IPv6 would count as a connection refused.
    url = f"https://127.0.0.1:{server.port()}"
    return httpx.AsyncClient(base_url=url, verify=context, trust_env=False, timeout=20)


def channel(server: Server, pair: Pair | None = None) -> grpc.aio.Channel:
    key, cert = (None, None) if pair is None else (pair.key, pair.cert)
    # Channels with the same arguments would share their connections.
    options = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.aio.secure_channel(
        server.grpc_target(), grpc.ssl_channel_credentials(AUTHORITY.cert, key, cert), options
    )


async def live(over: grpc.aio.Channel) -> None:
    await over.unary_unary(LIVE)(b"", timeout=20)


async def serial(port: int, *protocols: str) -> str:
    """Return the serial number of the certificate that a new connection gets."""
    context = trusting()
    context.set_alpn_protocols(protocols)
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    found: str = writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]
    writer.close()
    return found


async def test_renewed_certificates_are_for_new_connections_and_open_ones_go_on(
    serve: Serve, secret: MountedSecret
) -> None:
    server = start(serve, secret)
    grpc_port = int(server.grpc_target().rpartition(":")[2])
    assert "ready at https://localhost" in server.log()
    events: list[str] = []

    async def note(event: str, _: object) -> None:
        events.append(event)

    async with client(server, trusting()) as caller, channel(server) as old:
        asked = caller.build_request("POST", INFER, json=BODY, extensions={"trace": note})
        await live(old)
        assert await serial(server.port(), "http/1.1") == await serial(grpc_port, "h2") == FIRST.serial
        secret.write(secret_of(SECOND))
        async with asyncio.timeout(20):
            while await serial(server.port(), "http/1.1") != SECOND.serial:
                assert (await caller.send(asked)).status_code == 200
        assert (await caller.send(asked)).status_code == 200
        assert events.count("connection.start_tls.complete") == 1
        await live(old)
        assert await serial(grpc_port, "h2") == SECOND.serial
        async with channel(server) as new:
            await live(new)


async def test_a_pair_that_does_not_fit_leaves_the_former(serve: Serve, secret: MountedSecret) -> None:
    server = start(serve, secret)
    async with client(server, trusting()) as caller:
        secret.write(secret_of(FIRST) | {"tls.crt": SECOND.cert})
        async with asyncio.timeout(20):
            while 'onceserve_reloads_total{result="failure",what="tls"} 1.0' not in (await caller.get("/metrics")).text:
                pass
    assert await serial(server.port(), "http/1.1") == FIRST.serial
    assert "is not the key of the certificate" in server.log()


async def test_without_tls_nobody_is_served(serve: Serve, secret: MountedSecret) -> None:
    server = start(serve, secret)
    async with httpx.AsyncClient(trust_env=False) as plain:
        with pytest.raises(httpx.RemoteProtocolError):
            await plain.get(server.url())
    async with grpc.aio.insecure_channel(server.grpc_target()) as insecure:
        with pytest.raises(grpc.aio.AioRpcError):
            await live(insecure)


async def test_only_clients_of_the_authority_are_let_in(serve: Serve, secret: MountedSecret, tmp_path: Path) -> None:
    server = start(serve, secret, "--tls-client-ca", str(secret.path / "ca.crt"))
    async with client(server, trusting(tmp_path, CALLER)) as caller:
        assert (await caller.post(INFER, json=BODY)).status_code == 200
    async with channel(server, CALLER) as over:
        await live(over)
    for pair in (None, STRANGER):
        async with client(server, trusting(tmp_path, pair)) as caller:
            with pytest.raises(httpx.TransportError):
                await caller.get("/v2/health/live")
        async with channel(server, pair) as over:
            with pytest.raises(grpc.aio.AioRpcError):
                await live(over)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tls-cert", "{0}/tls.crt"], "--tls-key (or ONCESERVE_TLS_KEY): expected beside --tls-cert"),
        (["--tls-cert", "{0}/none", "--tls-key", "{0}/tls.key"], "there is no file {0}/none"),
        (["--tls-cert", "{0}/ca.crt", "--tls-key", "{0}/tls.key"], "{0}/tls.key is not the key of the certificate"),
    ],
)
def test_a_server_does_not_start_on_bad_files(
    serve: Serve, secret: MountedSecret, options: list[str], words: str
) -> None:
    server = serve(EXAMPLE / "model.onnx", *(option.format(secret.path) for option in options))
    assert server.wait() == 2
    assert words.format(secret.path) in server.log()
    assert server.log() == f"onceserve: {server.termination()['message']}\n"


async def test_a_drain_loses_no_call(serve: Serve, secret: MountedSecret) -> None:
    server = start(serve, secret, "--drain-delay", "0.2")
    context, calls, signalled = trusting(), 0, asyncio.Event()
    refused: list[float] = []

    async def reconnect() -> None:
        nonlocal calls
        while True:
            try:
                async with client(server, context) as caller:
                    assert (await caller.post(INFER, json=BODY)).status_code == 200
            except httpx.ConnectError:
                refused.append(time.monotonic())
                return
            calls += 1
            if calls == 20:
                signalled.set()

    tasks = [asyncio.create_task(reconnect()) for _ in range(4)]
    async with asyncio.timeout(60):
        await signalled.wait()
        at = time.monotonic()
        server.signal()
        await asyncio.gather(*tasks)
    assert min(refused) >= at + 0.2
    assert server.wait() == 0
