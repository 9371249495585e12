"""Metadata, health, metrics and the page for people: FastAPI at its most convenient."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel

from onceserve_contract import http
from onceserve_serving import __version__
from onceserve_serving.api import page
from onceserve_serving.api.openapi import problems
from onceserve_serving.auth.gate import DOCS_PATH
from onceserve_serving.errors import NotReadyError, UnknownModelError
from onceserve_serving.health import Health
from onceserve_serving.repository import Repository
from onceserve_serving.telemetry import Telemetry
from onceserve_serving.tensors import TensorSpec

EXTENSIONS: Final = ["binary_tensor_data", "model_repository"]

PROMETHEUS: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}


class Server(BaseModel):
    """The server's metadata."""

    name: str
    version: str
    extensions: list[str]


class Tensor(BaseModel):
    """An input or output; a dimension of -1 takes any size."""

    name: str
    datatype: str
    shape: list[int]


class Model(BaseModel):
    """The model's metadata."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[Tensor]
    outputs: list[Tensor]


class Live(BaseModel):
    """The server is alive."""

    live: bool = True


class Ready(BaseModel):
    """The server is ready."""

    ready: bool = True


class ModelReady(BaseModel):
    """The model is ready."""

    name: str
    ready: bool = True


def server_routes(repository: Repository, health: Health, telemetry: Telemetry, *, keys: bool) -> APIRouter:
    """Return the routes about the server; `keys` tells whether callers need one."""
    router = APIRouter(tags=["server"])

    @router.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def home(request: Request) -> str:
        host = request.headers.get("host", "")
        return page.render(repository.models(), health.describe(), request.url.scheme, host, keys=keys)

    @router.get(DOCS_PATH, response_class=HTMLResponse, include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page.DOCS, headers=page.SELF_CONTAINED)

    @router.get("/v2")
    async def server() -> Server:
        return Server(name="onceserve", version=__version__, extensions=EXTENSIONS)

    @router.get(http.LIVE_PATH, responses=problems(NotReadyError))
    async def live() -> Live:
        health.check_live()
        return Live()

    @router.get(http.READY_PATH, responses=problems(NotReadyError))
    async def ready() -> Ready:
        await health.check_ready()
        return Ready()

    @router.get(http.METRICS_PATH, response_class=Response, responses=PROMETHEUS)
    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(telemetry.registry), headers={"Content-Type": content_type})

    return router


def model_routes(repository: Repository, health: Health) -> APIRouter:
    """Return the routes about the models."""
    errors = problems(UnknownModelError, NotReadyError)
    router = APIRouter(prefix="/v2/models/{name}", tags=["models"], responses=errors)

    @router.get("")
    async def metadata(name: str) -> Model:
        return _described(repository, name, None)

    @router.get("/versions/{version}")
    async def version_metadata(name: str, version: str) -> Model:
        return _described(repository, name, version)

    @router.get("/ready")
    async def ready(name: str) -> ModelReady:
        await health.check_model(name)
        return ModelReady(name=name)

    @router.get("/versions/{version}/ready")
    async def version_ready(name: str, version: str) -> ModelReady:
        await health.check_model(name, version)
        return ModelReady(name=name)

    return router


def _described(repository: Repository, name: str, version: str | None) -> Model:
    model = repository.get(name, version)
    signature = model.runner().signature
    return Model(
        name=model.name,
        versions=[model.version],
        platform="onnxruntime_onnx",
        inputs=_tensors(signature.inputs),
        outputs=_tensors(signature.outputs),
    )


def _tensors(specs: Mapping[str, TensorSpec]) -> list[Tensor]:
    return [Tensor(name=spec.name, datatype=spec.datatype, shape=list(spec.shape)) for spec in specs.values()]
