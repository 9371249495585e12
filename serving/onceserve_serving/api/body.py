"""The body of a request, as it comes in."""

import asyncio
from typing import Final

import numpy as np

from onceserve_serving.api.problems import PayloadTooLargeError, UnsupportedMediaTypeError
from onceserve_serving.codec import compression
from onceserve_serving.http_protocol import Headers
from onceserve_serving.tensors import Buffer

ALIGNMENT: Final = 64
"""Bytes to whose multiple the first binary tensor of a large body is laid, so that it is used where it lies."""

MOST_DIGITS: Final = 18


class Body:
    """A body of which pieces come; one that comes in one piece is never copied."""

    __slots__ = ("_coding", "_content", "_end", "_header_length", "_length", "_limit", "_room")

    def __init__(self, headers: Headers, limit: int, header_length: int) -> None:
        """Look at what is said of it; `header_length` is the bytes before the first binary tensor.

        Raises PayloadTooLargeError above `limit` bytes, UnsupportedMediaTypeError.
        """
        self._coding = _coding(headers)
        self._length = _declared_length(headers)
        self._limit = limit
        self._header_length = header_length
        self._content: Buffer = b""
        self._room: memoryview | None = None
        self._end = 0
        _check_length(self._length, limit)

    def __len__(self) -> int:
        """Return its bytes, as far as they are known."""
        return self._length or len(self._content)

    def add(self, piece: bytes) -> None:
        """Take the next piece; raises PayloadTooLargeError."""
        if not self._content and self._room is None:
            _check_length(len(piece), self._limit)
            self._content = piece
        elif self._length:
            self._fill(piece)
        else:
            self._append(piece)

    def room(self) -> memoryview | None:
        """Return where the rest of a body of known length goes, for whoever brings all of it."""
        return self._laid_out()[self._end :] if self._length else None

    @property
    def plain(self) -> Buffer | None:
        """All of it, if it has no content coding."""
        return self._sent if self._coding == compression.IDENTITY else None

    async def content(self) -> Buffer:
        """Return all of it without its content coding; raises PayloadTooLargeError or InvalidRequestError."""
        if self._coding == compression.IDENTITY:
            return self._sent
        try:
            # Little may become much, and takes as long as that.
            return await asyncio.to_thread(compression.decompress, self._sent, self._coding, self._limit)
        except compression.TooLongError:
            raise _too_large(self._limit) from None

    @property
    def _sent(self) -> Buffer:
        return self._content if self._room is None else self._room

    def _fill(self, piece: bytes) -> None:
        room = self._laid_out()
        room[self._end : self._end + len(piece)] = piece
        self._end += len(piece)

    def _laid_out(self) -> memoryview:
        if self._room is None:
            self._room = _aligned(self._length, self._header_length)
            self._end = len(self._content)
            self._room[: self._end] = self._content
        return self._room

    def _append(self, piece: bytes) -> None:
        if not isinstance(self._content, bytearray):
            self._content = bytearray(self._content)
        self._content += piece
        _check_length(len(self._content), self._limit)


def _coding(headers: Headers) -> str:
    given = headers.get(b"content-encoding")
    if given is None:
        return compression.IDENTITY
    coding = given[:64].decode("latin-1").strip().lower()
    if coding != compression.IDENTITY and coding not in compression.DECODERS:
        raise UnsupportedMediaTypeError(f"Content-Encoding {coding!r} is not served: expected gzip, deflate or zstd")
    return coding


def _declared_length(headers: Headers) -> int:
    # Read as the parser does, leading zeros and all: what counts otherwise would take a body for the next request.
    length = headers.get(b"content-length", b"").lstrip(b"0")
    return int(length[:MOST_DIGITS]) if length.isdigit() else 0


def _aligned(size: int, offset: int) -> memoryview:
    """Return room for `size` bytes whose byte at `offset` is aligned; it takes memory only as it is filled."""
    room = np.empty(size + ALIGNMENT, dtype=np.uint8)
    start = -(room.ctypes.data + offset) % ALIGNMENT
    return room.data[start : start + size]


def _check_length(length: int, limit: int) -> None:
    if length > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(f"the body has more than {limit} bytes, which is the limit of this server")
