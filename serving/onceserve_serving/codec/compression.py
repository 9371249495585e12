"""Content codings of bodies: gzip, deflate and zstd, both ways; pure.

All of it lets go of the interpreter's lock, so that a thread can do it for large bodies.
"""

import gzip
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final, TypeAlias

import zstandard

from onceserve_serving.errors import InvalidRequestError
from onceserve_serving.tensors import Buffer

Decoder: TypeAlias = Callable[[Buffer, int], bytes | None]
"""Takes a coding from a body; None if there would be more bytes than the limit."""

IDENTITY: Final = "identity"

LEVEL: Final = 1
"""The cheapest level: a request waits for it, and the network between services is fast."""

WORTHWHILE: Final = 1024
"""Bytes from which a body is worth compressing: less fits a packet or two as it is."""

SAMPLE: Final = 16 * 2**10
GAIN: Final = 0.8
"""Share of its size that a sample of a body may keep: floats as bytes hardly shrink, and cost as much to try."""

ZSTD_WINDOW: Final = 8 * 2**20
"""Bytes that a zstd frame may make us keep; RFC 9659 lets nobody send more over HTTP."""


class TooLongError(Exception):
    """The decompressed body would be above the limit."""


def decompress(body: Buffer, coding: str, limit: int) -> bytes:
    """Return a body without its coding, which is one of DECODERS.

    Raises TooLongError as soon as there are more than `limit` bytes, InvalidRequestError if the body is no such one.
    """
    try:
        decoded = DECODERS[coding](body, limit)
    except (zlib.error, zstandard.ZstdError) as error:
        raise InvalidRequestError(f"the body is not {coding}: {error}") from None
    # Raised here, where no frame holds what has been decoded: an error from a thread outlives it.
    if decoded is None:
        raise TooLongError
    return decoded


def compress(pieces: Sequence[Buffer], coding: str) -> bytes:
    """Return the pieces as one body in a coding, which is one of ENCODERS."""
    return ENCODERS[coding](b"".join(pieces))


def pays(pieces: Sequence[Buffer]) -> bool:
    """Tell whether compressing would save much."""
    if sum(map(len, pieces)) < WORTHWHILE:
        return False
    sample = bytes(max(pieces, key=len)[:SAMPLE])
    return len(zlib.compress(sample, LEVEL)) < GAIN * len(sample)


@lru_cache(maxsize=256)
def choose(accepted: bytes) -> str:
    """Return the coding for an answer from the request's Accept-Encoding: of those liked best, our cheapest."""
    qualities = dict(map(_quality, accepted.decode("latin-1").lower().split(",")))
    others = qualities.get("*", 0.0)
    coding = max(ENCODERS, key=lambda one: qualities.get(one, others))
    return coding if 0 < qualities.get(coding, others) >= qualities.get(IDENTITY, 0.0) else IDENTITY


def _quality(item: str) -> tuple[str, float]:
    coding, *parameters = (part.strip() for part in item.split(";"))
    value = next((one[2:] for one in parameters if one.startswith("q=")), "1")
    try:
        return coding.removeprefix("x-"), float(value)
    except ValueError:
        return coding, 0.0


def _inflate(wbits: int) -> Decoder:
    def decode(body: Buffer, limit: int) -> bytes | None:
        decoder = zlib.decompressobj(wbits)
        decoded = decoder.decompress(body, limit + 1)
        if len(decoded) > limit:
            return None
        if not decoder.eof:
            raise zlib.error("it ends too early")
        if decoder.unused_data:
            raise zlib.error("bytes follow its end")
        return decoded

    return decode


def _zstd_decode(body: Buffer, limit: int) -> bytes | None:
    size = zstandard.get_frame_parameters(body).content_size
    decoder = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
    if size == zstandard.CONTENTSIZE_UNKNOWN:
        return _zstd_stream(decoder, body, limit)
    if size > limit:
        return None
    return decoder.decompress(body, allow_extra_data=False)


def _zstd_stream(decoder: zstandard.ZstdDecompressor, body: Buffer, limit: int) -> bytes | None:
    # One interface of the library's bounds what comes out, another tells where the frame ends: none does both.
    if len(decoder.stream_reader(body).read(limit + 1)) > limit:
        return None
    frame = decoder.decompressobj()
    decoded = frame.decompress(body)
    if not frame.eof or frame.unused_data:
        raise zstandard.ZstdError("it ends too early" if not frame.eof else "bytes follow its end")
    return decoded


def _zstd_encode(body: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=LEVEL).compress(body)


DECODERS: Final[Mapping[str, Decoder]] = {
    "zstd": _zstd_decode,
    "gzip": _inflate(zlib.MAX_WBITS | 16),
    "x-gzip": _inflate(zlib.MAX_WBITS | 16),
    "deflate": _inflate(zlib.MAX_WBITS),
}
"""Codings that a request may have."""

ENCODERS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "zstd": _zstd_encode,
    "gzip": lambda body: gzip.compress(body, LEVEL, mtime=0),
    "deflate": lambda body: zlib.compress(body, LEVEL),
}
"""Codings that an answer may have, the cheapest first."""
