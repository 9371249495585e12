"""The application: the infer route beside the management routes."""

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from onceserve_serving import __version__
from onceserve_serving.api.management import model_routes, server_routes
from onceserve_serving.api.open_inference import InferEndpoint, is_infer
from onceserve_serving.api.problems import problem_of
from onceserve_serving.errors import OnceServeError
from onceserve_serving.health import Health
from onceserve_serving.pipeline import Pipeline
from onceserve_serving.served import ServedModel
from onceserve_serving.telemetry import Telemetry


def create_app(model: ServedModel, health: Health, telemetry: Telemetry) -> FastAPI:
    """Return the management routes as an application."""
    app = FastAPI(title="OnceServe", version=__version__, redoc_url=None)
    app.include_router(server_routes(model, health, telemetry))
    app.include_router(model_routes(model, health))
    for error in (OnceServeError, HTTPException, Exception):
        app.add_exception_handler(error, _answer)
    return app


def create_server(model: ServedModel, health: Health, telemetry: Telemetry, max_body_bytes: int) -> ASGIApp:
    """Return the whole application: infer requests go past the framework, all others through it."""
    infer = InferEndpoint(model, Pipeline(model, telemetry), telemetry, max_body_bytes)
    management = create_app(model, health, telemetry)

    async def server(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and is_infer(scope["path"]):
            await infer(scope, receive, send)
        else:
            await management(scope, receive, send)

    return server


async def _answer(_: Request, error: Exception) -> Response:
    problem = problem_of(error)
    return Response(problem.body, problem.status, dict(problem.headers))
