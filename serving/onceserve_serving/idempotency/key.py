"""What a caller says of a retry: its key, and the identity under which stores keep the answer; pure."""

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from onceserve_serving.errors import InvalidKeyError

LONGEST: Final = 255

SCHEMA: Final = b"1"
"""Version of how a record's identity is made: another would find no record of this one."""

_BARE: Final = re.compile(rb"[!#-~][!-~]*")
_QUOTED: Final = re.compile(rb'"((?:[!#-\[\]-~]|\\["\\])*)"')
_ESCAPED: Final = re.compile(rb"\\(.)")

EXPECTED: Final = f"expected 1 to {LONGEST} visible ASCII characters, as they are or as a quoted string"


def parse(values: Sequence[bytes]) -> bytes | None:
    """Return the key in the values of a request's Idempotency-Key headers, None if there is none.

    Quoted (a structured field's string) and bare are the same key. Raises InvalidKeyError.
    """
    if not values:
        return None
    if len(values) > 1:
        raise InvalidKeyError(f"Idempotency-Key is given {len(values)} times; expected once")
    key = _unquoted(values[0].strip())
    if not 1 <= len(key) <= LONGEST:
        raise InvalidKeyError(f"Idempotency-Key has {len(key)} characters; {EXPECTED}")
    return key


def _unquoted(value: bytes) -> bytes:
    if quoted := _QUOTED.fullmatch(value):
        return _ESCAPED.sub(rb"\1", quoted[1]) if b"\\" in value else quoted[1]
    if value and not _BARE.fullmatch(value):
        raise InvalidKeyError(f"Idempotency-Key has a wrong form; {EXPECTED}")
    return value


def record_of(*scope: bytes, key: bytes) -> bytes:
    """Return the identity of a key within a scope: 32 bytes that tell nothing of either."""
    return hashlib.sha256(b"%b%d:%b" % (_joined(scope), len(key), key)).digest()


@lru_cache(maxsize=1024)
def _joined(scope: Sequence[bytes]) -> bytes:
    """Return the parts of a scope such that no other parts give the same."""
    return b"".join([b"%d:%b" % (len(part), part) for part in (SCHEMA, *scope)])
