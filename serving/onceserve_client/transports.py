"""The transports that httpx's clients take."""

import asyncio
import contextlib
import time
from typing import Final

import httpx

from onceserve_client.call import TRANSIENT, Call, Outcome, result
from onceserve_client.policy import Policy, Tokens

USUAL: Final = Policy()


class Transport(httpx.BaseTransport):
    """Sends each call, over the transport that it wraps, until it is answered.

    Raises StreamedBodyError before anything is sent, and what the last try raised. Answers are read whole before they
    are returned, since one that breaks off is asked for again.
    """

    def __init__(self, wrapped: httpx.BaseTransport | None = None, policy: Policy = USUAL) -> None:
        self._wrapped = wrapped or httpx.HTTPTransport()
        self._policy = policy
        self._tokens = Tokens(policy, time.monotonic())

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Return the final answer, or the last that there was."""
        call = Call(request, self._policy, self._tokens)
        outcome = self._try(call.next())
        while (pause := call.pause(outcome)) is not None:
            time.sleep(pause)
            outcome = self._try(call.next())
        return result(outcome)

    def close(self) -> None:
        """Close the connections."""
        self._wrapped.close()

    def _try(self, request: httpx.Request) -> Outcome:
        try:
            response = self._wrapped.handle_request(request)
            stream: httpx.SyncByteStream = response.stream  # type: ignore[assignment]
            with contextlib.closing(stream):
                response.stream = httpx.ByteStream(b"".join(stream))
        except TRANSIENT as error:
            return error
        return response


class AsyncTransport(httpx.AsyncBaseTransport):
    """Does the same on an event loop of asyncio; a call that is cancelled is not sent again."""

    def __init__(self, wrapped: httpx.AsyncBaseTransport | None = None, policy: Policy = USUAL) -> None:
        self._wrapped = wrapped or httpx.AsyncHTTPTransport()
        self._policy = policy
        self._tokens = Tokens(policy, time.monotonic())

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the final answer, or the last that there was."""
        call = Call(request, self._policy, self._tokens)
        outcome = await self._try(call.next())
        while (pause := call.pause(outcome)) is not None:
            await asyncio.sleep(pause)
            outcome = await self._try(call.next())
        return result(outcome)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._wrapped.aclose()

    async def _try(self, request: httpx.Request) -> Outcome:
        try:
            response = await self._wrapped.handle_async_request(request)
            stream: httpx.AsyncByteStream = response.stream  # type: ignore[assignment]
            async with contextlib.aclosing(stream):
                response.stream = httpx.ByteStream(b"".join([piece async for piece in stream]))
        except TRANSIENT as error:
            return error
        return response
