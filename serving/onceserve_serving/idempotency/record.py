"""What a store keeps of a request: which one it was, and how it was answered."""

import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

import zstandard

from onceserve_serving.errors import OnceServeError

KEY_ID_BYTES: Final = 8
FINGERPRINT_BYTES: Final = KEY_ID_BYTES + 32

VERSION: Final = 1
PLAIN, COMPRESSED, TOMBSTONE = range(3)
WORTH_COMPRESSING: Final = 512
"""Bytes below which compression saves less than it costs."""

_OUTCOME = struct.Struct(">HH")
_HEADER = struct.Struct(">HI")
_TOMBSTONE = struct.Struct(">HQ32s")
_compressor = zstandard.ZstdCompressor(level=1)
_compressing = threading.Lock()


class UnreadableRecordError(OnceServeError):
    """The store has a record that this server cannot judge: nothing may be run or answered for its key."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A final answer, as it was sent."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What is kept of an answer that is too large to be replayed: its SHA-256 and the size of its body in bytes."""

    status: int
    sha256: bytes
    size: int


Answer: TypeAlias = Outcome | Tombstone


class Fingerprint(NamedTuple):
    """Which request it is, by the present key and, while keys are rotated, by the one before it (or after it).

    Each is an identifier of the key (8 bytes) and a MAC (32 bytes). A record keeps both, so that servers of which one
    has the old key alone and another the new one alone never meet during a rotation that adds before it removes.
    """

    current: bytes
    other: bytes = b""

    @classmethod
    def parse(cls, packed: bytes) -> "Fingerprint":
        """Return what `packed` was made of."""
        return cls(packed[:FINGERPRINT_BYTES], packed[FINGERPRINT_BYTES:])

    @property
    def packed(self) -> bytes:
        """Both as one string of bytes."""
        return self.current + self.other

    def is_of(self, given: "Fingerprint") -> bool:
        """Tell whether this is the same request; raises UnreadableRecordError if no key is common to both."""
        if self.current in given or (self.other and self.other in given):
            return True
        if not {part[:KEY_ID_BYTES] for part in self if part} & {part[:KEY_ID_BYTES] for part in given if part}:
            raise UnreadableRecordError(
                "the store has this key with a fingerprint by a secret that this server does not have"
            )
        return False


def encode(answer: Answer) -> bytes:
    """Return the answer as a store keeps it: a byte for the version, one for the form, and the form's own."""
    if isinstance(answer, Tombstone):
        return bytes((VERSION, TOMBSTONE)) + _TOMBSTONE.pack(answer.status, answer.size, answer.sha256)
    parts = [_OUTCOME.pack(answer.status, len(answer.headers))]
    for name, value in answer.headers:
        parts += (_HEADER.pack(len(name), len(value)), name, value)
    plain = b"".join((*parts, answer.body))
    if len(plain) >= WORTH_COMPRESSING and len(smaller := _compress(plain)) < len(plain):
        return bytes((VERSION, COMPRESSED)) + smaller
    return bytes((VERSION, PLAIN)) + plain


def _compress(plain: bytes) -> bytes:
    # A compressor is dear to make, and one call's at a time.
    with _compressing:
        return _compressor.compress(plain)


def decode(blob: bytes) -> Answer:
    """Return the answer that a store kept; raises UnreadableRecordError for one that this release does not know."""
    version, form = blob[:1], blob[1:2]
    if version != bytes((VERSION,)):
        raise UnreadableRecordError(
            f"the store has an answer of format {version.hex() or 'none'}; this release knows only {VERSION:02x}"
        )
    try:
        return _FORMS[form[0]](blob[2:])
    except (IndexError, KeyError, struct.error, zstandard.ZstdError) as error:
        raise UnreadableRecordError("the store has an answer that is damaged") from error


def _plain(content: bytes) -> Outcome:
    status, count = _OUTCOME.unpack_from(content)
    at, headers = _OUTCOME.size, []
    for _ in range(count):
        name, value = _HEADER.unpack_from(content, at)
        begin = at + _HEADER.size
        at = begin + name + value
        if at > len(content):
            raise IndexError(at)
        headers.append((content[begin : begin + name], content[begin + name : at]))
    return Outcome(status, tuple(headers), content[at:])


def _compressed(content: bytes) -> Outcome:
    return _plain(zstandard.ZstdDecompressor().decompress(content))


def _tombstone(content: bytes) -> Tombstone:
    status, size, sha256 = _TOMBSTONE.unpack(content)
    return Tombstone(status, sha256, size)


_FORMS: Final[Mapping[int, Callable[[bytes], Answer]]] = {PLAIN: _plain, COMPRESSED: _compressed, TOMBSTONE: _tombstone}
