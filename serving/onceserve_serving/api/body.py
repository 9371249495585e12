"""The body of a request, as it comes in."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from starlette.types import Receive

from onceserve_serving.api.problems import PayloadTooLargeError, UnsupportedMediaTypeError
from onceserve_serving.codec import compression
from onceserve_serving.errors import InvalidRequestError
from onceserve_serving.tensors import Buffer

ALIGNMENT: Final = 64
"""Bytes to whose multiple the first binary tensor of a large body is laid, so that it is used where it lies."""

MOST_DIGITS: Final = 18


class ClientGoneError(Exception):
    """The client left before its request was answered."""


async def read(receive: Receive, headers: Mapping[bytes, bytes], limit: int, header_length: int) -> Buffer:
    """Return a request's body without its content coding.

    `header_length` is the bytes before the first binary tensor. Raises PayloadTooLargeError above `limit` bytes,
    UnsupportedMediaTypeError, InvalidRequestError or ClientGoneError.
    """
    coding = _coding(headers)
    body = await _read(receive, _declared_length(headers), limit, header_length)
    if coding == compression.IDENTITY:
        return body
    try:
        # Little may become much, and takes as long as that.
        return await asyncio.to_thread(compression.decompress, body, coding, limit)
    except compression.TooLongError:
        raise _too_large(limit) from None


def _coding(headers: Mapping[bytes, bytes]) -> str:
    given = headers.get(b"content-encoding")
    if given is None:
        return compression.IDENTITY
    coding = given[:64].decode("latin-1").strip().lower()
    if coding != compression.IDENTITY and coding not in compression.DECODERS:
        raise UnsupportedMediaTypeError(f"Content-Encoding {coding!r} is not served: expected gzip, deflate or zstd")
    return coding


def _declared_length(headers: Mapping[bytes, bytes]) -> int:
    length = headers.get(b"content-length", b"0")[:MOST_DIGITS]
    return int(length) if length.isdigit() else 0


async def _read(receive: Receive, declared: int, limit: int, header_length: int) -> Buffer:
    _check_length(declared, limit)
    message = await _next(receive)
    body: bytes = message.get("body", b"")
    _check_length(len(body), limit)
    if not message.get("more_body"):
        return body
    if declared:
        return await _fill(receive, body, _aligned(declared, header_length))
    return await _collect(receive, body, limit)


def _aligned(size: int, offset: int) -> memoryview:
    """Return room for `size` bytes whose byte at `offset` is aligned; it takes memory only as it is filled."""
    room = np.empty(size + ALIGNMENT, dtype=np.uint8)
    start = -(room.ctypes.data + offset) % ALIGNMENT
    return room.data[start : start + size]


async def _fill(receive: Receive, body: bytes, room: memoryview) -> memoryview:
    end, more = 0, True
    while True:
        if end + len(body) > len(room):
            raise InvalidRequestError(f"the body has more bytes than its Content-Length of {len(room)}")
        room[end : end + len(body)] = body
        end += len(body)
        if not more:
            return room[:end]
        message = await _next(receive)
        body, more = message.get("body", b""), message.get("more_body", False)


async def _collect(receive: Receive, first: bytes, limit: int) -> bytearray:
    body, more = bytearray(first), True
    while more:
        message = await _next(receive)
        body += message.get("body", b"")
        _check_length(len(body), limit)
        more = message.get("more_body", False)
    return body


async def _next(receive: Receive) -> Mapping[str, Any]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    return message


def _check_length(length: int, limit: int) -> None:
    if length > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(f"the body has more than {limit} bytes, which is the limit of this server")
