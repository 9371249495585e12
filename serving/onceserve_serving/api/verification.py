"""What the operator asks the model before callers do, as a raw ASGI endpoint: each pod is asked, and few need more."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hmac import compare_digest
from typing import Any, Final, TypeAlias

import orjson
from starlette.types import Receive, Scope, Send

from onceserve_contract import verification
from onceserve_serving.api import golden
from onceserve_serving.api.asgi import JSON, Answer, respond
from onceserve_serving.api.body import Body
from onceserve_serving.api.problems import MethodNotAllowedError, UnknownPathError, kind_of
from onceserve_serving.errors import InvalidRequestError, NotReadyError, UnauthenticatedError, UnknownModelError
from onceserve_serving.repository import Repository
from onceserve_serving.served import ServedModel
from onceserve_serving.tensors import Buffer, InferenceRequest, Signature

Decode: TypeAlias = Callable[[Signature], InferenceRequest]

PATH: Final = verification.PATH
TOKEN: Final = verification.HEADER.encode()


class Verification:
    """POST of an example and of golden requests, one after another.

    They go through decoding, batches and the engine as a caller's do, and past all that is a caller's alone: API keys,
    admission, idempotency, the counts and times of requests.
    """

    def __init__(self, repository: Repository, key: str, *, max_body_bytes: int, patience: float) -> None:
        """Take the token with this hash (empty: none); `patience` is the seconds that a request may take."""
        self._repository = repository
        self._key = key
        self._max_body_bytes = max_body_bytes
        self._patience = patience
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request for the path."""
        await respond(send, self._answer(scope, receive))

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        headers = dict(scope["headers"])
        self._check_token(headers)
        if scope["method"] != "POST":
            raise MethodNotAllowedError(f"{scope['method']} is not served here: a verification takes POST")
        requests = golden.requests(await _read(headers, receive, self._max_body_bytes))
        model = self._model()
        # Of those that wait, nobody would know who still waits for them.
        if self._turn.locked():
            raise NotReadyError(f"model {model.name!r} is being verified; ask again when that is over")
        async with self._turn:
            return Answer(200, JSON, orjson.dumps(await self._verified(model, requests)))

    def _check_token(self, headers: Mapping[bytes, bytes]) -> None:
        if not self._key:
            raise UnknownPathError(f"there is no {PATH!r} here: the server has no verification key")
        if not compare_digest(verification.key(headers.get(TOKEN, b"").decode("latin-1")), self._key):
            raise UnauthenticatedError(f"a verification takes the token of this server in the header {TOKEN.decode()}")

    def _model(self) -> ServedModel:
        models = self._repository.models()
        if len(models) != 1:
            raise UnknownModelError(f"a verification asks the one model of a server, and this one has {len(models)}")
        return models[0]

    async def _verified(self, model: ServedModel, requests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        example = model.runner().warm.inputs
        return {
            "name": model.name,
            "version": model.version,
            "sha256": model.sha256,
            "smoke": await self._result(model, lambda its: InferenceRequest(None, example, tuple(its.outputs)), {}),
            "answers": [
                await self._result(model, partial(golden.decode, request), request.get("data", {}))
                for request in requests
            ],
        }

    async def _result(self, model: ServedModel, decode: Decode, data: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return await self._asked(model, decode, data)
        except NotReadyError:
            raise
        except Exception as error:
            return {"error": kind_of(error)[1]}

    async def _asked(self, model: ServedModel, decode: Decode, data: Mapping[str, Any]) -> dict[str, Any]:
        signature, _, batcher = model.journey()
        request = decode(signature)
        try:
            # The batcher would count a deadline of its own as a caller's.
            async with asyncio.timeout(self._patience):
                arrays = await batcher.run(request.inputs, request.outputs, time.monotonic(), math.inf)
        except TimeoutError:
            raise NotReadyError(f"model {model.name!r} did not answer within {self._patience:g} s") from None
        return golden.result(request.outputs, arrays, signature, data)


async def _read(headers: Mapping[bytes, bytes], receive: Receive, limit: int) -> Buffer:
    body = Body(headers, limit, 0)
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InvalidRequestError("the caller left before its body was complete")
        body.add(message.get("body", b""))
        if not message.get("more_body", False):
            return await body.content()
