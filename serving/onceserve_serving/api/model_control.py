"""The protocol's repository extension: what can be loaded, and loading and unloading at run time."""

from reprlib import repr as brief
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from onceserve_serving.api.body import Body
from onceserve_serving.api.openapi import problems
from onceserve_serving.api.problems import PayloadTooLargeError
from onceserve_serving.errors import (
    InvalidRequestError,
    ModelControlDisabledError,
    ModelUnavailableError,
    UnknownModelError,
)
from onceserve_serving.repository import Repository
from onceserve_serving.served import State

MOST_BYTES: Final = 2**16

DOCUMENTED: Final = {
    "requestBody": {"content": {"application/json": {"schema": {"type": "object"}, "example": {}}}, "required": False}
}


class Row(BaseModel):
    """A model that is or can be loaded; `reason` tells why one is not."""

    name: str
    version: str
    state: State
    reason: str


def repository_routes(repository: Repository) -> APIRouter:
    """Return the routes about the repository."""
    router = APIRouter(
        prefix="/v2/repository", tags=["repository"], responses=problems(InvalidRequestError, PayloadTooLargeError)
    )
    control = problems(ModelControlDisabledError, UnknownModelError, ModelUnavailableError)

    @router.post("/index", openapi_extra=DOCUMENTED)
    async def index(request: Request) -> list[Row]:
        ready = (await _asked(request)).get("ready") is True
        rows = [row for row in repository.index() if row.state is State.READY or not ready]
        return [Row(name=row.name, version=row.version, state=row.state, reason=row.reason) for row in rows]

    @router.post("/models/{name}/load", response_class=Response, responses=control, openapi_extra=DOCUMENTED)
    async def load(name: str, request: Request) -> Response:
        repository.check_control()
        if overrides := (await _asked(request)).get("parameters"):
            raise InvalidRequestError(f"a model is loaded as it lies: parameters are not taken, as {brief(overrides)}")
        await repository.load(name)
        return Response()

    @router.post("/models/{name}/unload", response_class=Response, responses=control, openapi_extra=DOCUMENTED)
    async def unload(name: str, request: Request) -> Response:
        repository.check_control()
        await _asked(request)
        await repository.unload(name)
        return Response()

    return router


async def _asked(request: Request) -> dict[str, Any]:
    """Return the body's document; clients of the protocol name no media type, and may send nothing."""
    body = Body(dict(request.headers.raw), MOST_BYTES, 0)
    async for piece in request.stream():
        body.add(piece)
    try:
        document = orjson.loads(await body.content() or b"{}")
    except orjson.JSONDecodeError as error:
        raise InvalidRequestError(f"the body is not JSON: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("parameters", {}), dict):
        raise InvalidRequestError("the body must be a JSON object, and its 'parameters' as well")
    return document
