"""Metadata, health, metrics and the page for people: FastAPI at its most convenient."""

from collections.abc import Mapping

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel

from onceserve_contract import http
from onceserve_serving import __version__
from onceserve_serving.api import page
from onceserve_serving.health import Health
from onceserve_serving.served import ServedModel
from onceserve_serving.telemetry import Telemetry
from onceserve_serving.tensors import TensorSpec


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


def server_routes(model: ServedModel, health: Health, telemetry: Telemetry) -> APIRouter:
    """Return the routes about the server."""
    router = APIRouter()

    @router.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def home(request: Request) -> str:
        return page.render(model, request.headers.get("host", ""))

    @router.get("/v2", tags=["server"])
    async def server() -> Server:
        return Server(name="onceserve", version=__version__, extensions=[])

    @router.get(http.LIVE_PATH, tags=["server"])
    async def live() -> Live:
        health.check_live()
        return Live()

    @router.get(http.READY_PATH, tags=["server"])
    async def ready() -> Ready:
        await health.check_ready()
        return Ready()

    @router.get(http.METRICS_PATH, tags=["server"])
    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(telemetry.registry), headers={"Content-Type": content_type})

    return router


def model_routes(model: ServedModel, health: Health) -> APIRouter:
    """Return the routes about the model."""
    router = APIRouter(prefix="/v2/models/{name}", tags=["model"])

    @router.get("")
    @router.get("/versions/{version}")
    async def metadata(name: str, version: str | None = None) -> Model:
        model.check(name, version)
        signature = model.runner().signature
        return Model(
            name=model.name,
            versions=[model.version],
            platform="onnxruntime_onnx",
            inputs=_described(signature.inputs),
            outputs=_described(signature.outputs),
        )

    @router.get("/ready")
    @router.get("/versions/{version}/ready")
    async def ready(name: str, version: str | None = None) -> ModelReady:
        model.check(name, version)
        await health.check_ready()
        return ModelReady(name=model.name)

    return router


def _described(specs: Mapping[str, TensorSpec]) -> list[Tensor]:
    return [_tensor(spec) for spec in specs.values()]


def _tensor(spec: TensorSpec) -> Tensor:
    return Tensor(name=spec.name, datatype=spec.datatype, shape=list(spec.shape))
