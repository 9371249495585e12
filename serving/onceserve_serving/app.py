"""The management application: FastAPI at its most convenient."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from onceserve_serving import __version__
from onceserve_serving.api import openapi
from onceserve_serving.api.management import model_routes, server_routes
from onceserve_serving.api.methods import allowed, with_methods
from onceserve_serving.api.model_control import repository_routes
from onceserve_serving.api.problems import UnknownPathError, problem_of
from onceserve_serving.auth.gate import OPEN_PATHS
from onceserve_serving.edge import Edge
from onceserve_serving.errors import OnceServeError, UnauthenticatedError
from onceserve_serving.health import Health
from onceserve_serving.repository import Repository
from onceserve_serving.telemetry import Telemetry


class Management(FastAPI):
    """The management routes; their OpenAPI document also has the infer route of each model that is loaded now."""

    def __init__(self, repository: Repository, health: Health, telemetry: Telemetry, *, keys: bool = False) -> None:
        # The framework's own page loads its parts from another host.
        super().__init__(title="OnceServe", version=__version__, docs_url=None, redoc_url=None)
        self._repository = repository
        self._keys = keys
        self.include_router(server_routes(repository, health, telemetry, keys=keys))
        self.include_router(model_routes(repository, health))
        self.include_router(repository_routes(repository))
        for error in (OnceServeError, HTTPException, Exception):
            self.add_exception_handler(error, _answer)

    def openapi(self) -> dict[str, Any]:
        """Return the document."""
        return openapi.complete(super().openapi(), self._repository.models(), keys=self._keys)


def create_management(repository: Repository, health: Health, telemetry: Telemetry, edge: Edge) -> ASGIApp:
    """Return the management routes behind the API keys."""
    management = Management(repository, health, telemetry, keys=edge.gate is not None)
    return guarded(with_methods(management), edge)


def guarded(app: ASGIApp, edge: Edge) -> ASGIApp:
    """Return the application behind the API keys; OPEN_PATHS stay open."""
    if edge.gate is None:
        return app

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            try:
                edge.tenant(dict(scope["headers"]))
            except UnauthenticatedError as error:
                problem = problem_of(error)
                answer = Response(problem.body, problem.status, dict(problem.headers))
                await answer(scope, receive, send)
                return
        await app(scope, receive, send)

    return guard


async def _answer(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.NOT_FOUND:
        error = UnknownPathError(f"there is no {request.url.path[:256]!r} here; /docs shows what there is")
    problem = problem_of(error)
    headers = dict(problem.headers)
    if problem.status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(allowed(request.app, request.scope))
    return Response(problem.body, problem.status, headers)
