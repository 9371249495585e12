"""HEAD and OPTIONS, as HTTP has them: HEAD wherever there is GET, OPTIONS for every path that there is."""

from http import HTTPStatus
from typing import Final

from fastapi import FastAPI
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from onceserve_serving.api.open_inference import is_infer

INFER: Final = ["POST", "OPTIONS"]
USED: Final = ("GET", "POST")


def with_methods(app: FastAPI) -> ASGIApp:
    """Return the application with HEAD and OPTIONS."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        method = scope.get("method")
        if method == "OPTIONS" and (methods := allowed(app, scope)):
            answer = Response(status_code=HTTPStatus.NO_CONTENT, headers={"Allow": ", ".join(methods)})
            await answer(scope, receive, send)
        elif method == "HEAD":
            # The server leaves the body out: it knows what it was asked.
            await app({**scope, "method": "GET"}, receive, send)
        else:
            await app(scope, receive, send)

    return serve


def allowed(app: FastAPI, scope: Scope) -> list[str]:
    """Return the methods of a path; none if there is no such path."""
    if is_infer(scope["path"]):
        return INFER
    methods = [method for method in USED if any(_takes(route, scope, method) for route in app.routes)]
    return [*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"] if methods else []


def _takes(route: BaseRoute, scope: Scope, method: str) -> bool:
    return route.matches({**scope, "method": method})[0] is Match.FULL
