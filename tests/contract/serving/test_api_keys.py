"""API keys: asked of every call but probes and metrics, renewed under load, never logged."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import httpx
import pytest

from contract.serving.conftest import EXAMPLE, Serve
from contract.serving.process import Server, client, row, until
from onceserve_serving.auth import keys
from onceserve_serving.proto import open_inference_pb2 as messages
from support.secrets import MountedSecret

INFER = "/v2/models/risk/infer"
BODY = row("X", "FP32", [1] * 30, [1, 30])
ANN, BEN, EVE = keys.new_key(), keys.new_key(), keys.new_key()
SERVICE = "/inference.GRPCInferenceService"

PROTECTED = [
    ("POST", INFER),
    ("POST", "/v2/models/risk/versions/1/infer"),
    ("POST", "/v2/models/none/infer"),
    ("GET", "/v2/models/risk"),
    ("GET", "/v2/models/none"),
    ("GET", "/v2/models/risk/ready"),
    ("GET", "/v2"),
    ("GET", "/"),
    ("GET", "/docs/"),
    ("GET", "/openapi.json"),
    ("GET", "/nothing"),
    ("GET", "/metrics/"),
    ("GET", "/v2/health/../models/risk"),
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/risk/unload"),
]


@pytest.fixture(scope="module")
def server(module_serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Server:
    file = tmp_path_factory.mktemp("keys") / "keys.txt"
    file.write_text(f"{keys.line_of(ANN, 'ann')}\n{keys.line_of(BEN, 'ben')}\n")
    options = ("--api-keys", str(file), "--grpc-port", "0", "--access-log", "--log-level", "debug")
    return module_serve(EXAMPLE / "model.onnx", "--name", "risk", *options).ready()


@pytest.fixture
def caller(server: Server) -> Iterator[httpx.Client]:
    yield from client(server)


@pytest.mark.parametrize(("method", "path"), PROTECTED)
def test_what_is_not_a_probe_takes_a_key(caller: httpx.Client, method: str, path: str) -> None:
    for headers in ({}, {"X-API-Key": EVE}, {"Authorization": f"Bearer {EVE}"}, {"Authorization": f"Basic {ANN}"}):
        answer = caller.request(method, path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"] == 'Bearer realm="onceserve"'
        assert answer.json()["error"] == answer.json()["detail"]
        assert "API key" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/metrics", "/docs"])
def test_probes_metrics_and_the_page_for_keys_are_open(caller: httpx.Client, path: str) -> None:
    assert caller.get(path).status_code == 200


@pytest.mark.parametrize("headers", [{"X-API-Key": ANN}, {"Authorization": f"Bearer {BEN}"}])
def test_a_key_opens_all(caller: httpx.Client, headers: dict[str, str]) -> None:
    assert caller.post(INFER, json=BODY, headers=headers).status_code == 200
    for path in ("/v2/models/risk", "/v2", "/", "/openapi.json"):
        assert caller.get(path, headers=headers).status_code == 200
    assert caller.get("/v2/models/none", headers=headers).status_code == 404


def test_refusals_are_counted_and_logged_with_nobodys_key(server: Server, caller: httpx.Client) -> None:
    caller.post(INFER, json=BODY, headers={"X-API-Key": BEN, "X-Request-Id": "by-ben"})
    caller.post(INFER, json=BODY, headers={"X-API-Key": EVE, "X-Request-Id": "by-eve"})
    assert 'onceserve_requests_total{code="401",protocol="http"}' in caller.get("/metrics").text
    lines = {one["request_id"]: one for one in server.records() if one["logger"] == "onceserve_serving.access"}
    assert lines["by-ben"]["tenant"] == "ben"
    assert (lines["by-eve"]["status"], lines["by-eve"]["error"]) == (401, "UnauthenticatedError")
    assert "tenant" not in lines["by-eve"]


async def ask(channel: grpc.aio.Channel, method: str, request: bytes = b"", key: str = "") -> grpc.StatusCode:
    try:
        await channel.unary_unary(method)(request, metadata=[("x-api-key", key)] if key else [], timeout=20)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_grpc_takes_the_same_keys(server: Server) -> None:
    tensor = {"name": "X", "datatype": "FP32", "shape": [1, 30], "contents": {"fp32_contents": [1] * 30}}
    asked = messages.ModelInferRequest(model_name="risk", inputs=[tensor]).SerializeToString()
    async with grpc.aio.insecure_channel(server.grpc_target()) as channel:
        for path in (f"{SERVICE}/ServerLive", f"{SERVICE}/ServerReady", "/grpc.health.v1.Health/Check"):
            assert await ask(channel, path) is grpc.StatusCode.OK
        for path in (f"{SERVICE}/ModelInfer", f"{SERVICE}/ServerMetadata", f"{SERVICE}/RepositoryIndex"):
            assert await ask(channel, path, asked) is grpc.StatusCode.UNAUTHENTICATED
            assert await ask(channel, path, asked, EVE) is grpc.StatusCode.UNAUTHENTICATED
        assert await ask(channel, f"{SERVICE}/ModelInfer", asked, ANN) is grpc.StatusCode.OK
        assert await ask(channel, f"{SERVICE}/ServerMetadata", b"", ANN) is grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (f"# mine\nann: {ANN}\n", "keys.txt, line 2: expected OWNER: sha256:HASH"),
        ("", "keys.txt holds no key, so that nobody could call"),
        (None, "keys.txt"),
    ],
)
def test_a_server_does_not_start_on_bad_keys(serve: Serve, tmp_path: Path, content: str | None, words: str) -> None:
    file = tmp_path / "keys.txt"
    if content is not None:
        file.write_text(content)
    server = serve(EXAMPLE / "model.onnx", "--api-keys", str(file))
    assert server.wait() == 2
    assert server.termination()["reason"] == "InvalidSettings"
    assert server.log() == f"onceserve: {server.termination()['message']}\n"
    assert words in server.log()
    assert ANN not in server.log()


@dataclass
class Load:
    """Calls without pause with one key."""

    url: str
    key: str
    calls: int = 0
    failures: list[str] = field(default_factory=list)

    async def call_until_cancelled(self) -> None:
        async with httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=20) as caller:
            while True:
                answer = await caller.post(INFER, json=BODY, headers={"X-API-Key": self.key})
                self.calls += 1
                if answer.status_code != 200:
                    self.failures.append(answer.text)

    @asynccontextmanager
    async def running(self, clients: int) -> AsyncIterator["Load"]:
        tasks = [asyncio.create_task(self.call_until_cancelled()) for _ in range(clients)]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                assert isinstance(result, asyncio.CancelledError), result


async def test_keys_are_renewed_under_load_without_a_failed_call(serve: Serve, tmp_path: Path) -> None:
    secret = MountedSecret(tmp_path)
    secret.write({"ann": keys.line_of(ANN)})
    server = serve(EXAMPLE / "model.onnx", "--name", "risk", "--api-keys", str(secret.path)).ready()
    async with (
        httpx.AsyncClient(base_url=server.url(), trust_env=False, timeout=20) as caller,
        Load(server.url(), ANN).running(clients=4) as load,
    ):

        async def answered(key: str, status: int) -> None:
            async with asyncio.timeout(20):
                while (await caller.post(INFER, json=BODY, headers={"X-API-Key": key})).status_code != status:
                    pass

        async def counted(result: str, times: int) -> None:
            line = f'onceserve_reloads_total{{result="{result}",what="api_keys"}} {times}.0'
            async with asyncio.timeout(20):
                while line not in (await caller.get("/metrics")).text:
                    pass

        await answered(BEN, 401)
        for times in range(2):
            secret.write({"ann": keys.line_of(ANN), "ben": keys.line_of(BEN)})
            await answered(BEN, 200)
            secret.write({"ann": f"{keys.line_of(ANN)}\n{keys.line_of(EVE)}"})
            await answered(EVE, 200)
            await answered(BEN, 401)
            await counted("success", 2 * times + 2)
        secret.write({"ann": "sha256:abc"})
        await counted("failure", 1)
        await answered(EVE, 200)
        assert load.calls > 100
    assert load.failures == []
    until(lambda: "line 1: expected OWNER: sha256:HASH" in server.log(), "the bad file is logged")


def test_no_key_and_no_hash_is_ever_logged(server: Server, caller: httpx.Client) -> None:
    for key in (ANN, EVE):
        for headers in (
            {"X-API-Key": key},
            {"Authorization": f"Bearer {key}"},
            {"X-Request-Id": "x", "X-API-Key": key},
        ):
            caller.post(INFER, json=BODY, headers=headers)
            caller.post(INFER, content=b"{", headers=headers)
            caller.get("/v2/models/risk", headers=headers)
    server.signal()
    assert server.wait() == 0
    log = server.log()
    assert "/infer 200" in log
    for key in (ANN, BEN, EVE):
        assert key not in log
        assert hashlib.sha256(key.encode()).hexdigest() not in log
