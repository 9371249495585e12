"""Keys, their hashes, and the lines that hold them; pure but for the randomness of a new key."""

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from hmac import compare_digest
from typing import Final, NamedTuple

PREFIX: Final = "onceserve_"
"""Begins every key made here, so that scanners of repositories and logs know one when they see it."""

RANDOM_BYTES: Final = 32

OWNER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,252}")

_LINE: Final = re.compile(r"(?:(?P<owner>[^:]+?)\s*:\s*)?sha256:(?P<digest>[0-9a-fA-F]{64})")


class Entry(NamedTuple):
    """A key's owner and the SHA-256 of the key."""

    owner: str
    digest: bytes


class KeyLineError(ValueError):
    """A line that holds no key. The text never quotes it: somebody may have pasted a key."""


def new_key() -> str:
    """Return a key that nobody can guess."""
    return PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def digest_of(key: bytes) -> bytes:
    """Return the hash by which a key is known.

    A plain SHA-256 is right for keys of 256 random bits, as `new_key` makes them, and wrong for passwords.
    """
    return hashlib.sha256(key).digest()


def line_of(key: str, owner: str = "") -> str:
    """Return the line of a key for a file of keys."""
    hashed = f"sha256:{digest_of(key.encode()).hex()}"
    return f"{owner}: {hashed}" if owner else hashed


def parse(text: str, owner: str = "") -> list[Entry]:
    """Return the entries of `OWNER: sha256:HEX` lines; `owner` is whose a line without OWNER is.

    Empty lines and lines that begin with # hold nothing. Raises KeyLineError with the line's number.
    """
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    return [_entry(number, line, owner) for number, line in lines if line and not line.startswith("#")]


def _entry(number: int, line: str, default: str) -> Entry:
    found = _LINE.fullmatch(line)
    if found is None:
        raise KeyLineError(f"line {number}: expected OWNER: sha256:HASH with 64 hex digits (see onceserve hash-key)")
    owner = found["owner"] or default
    if not owner:
        raise KeyLineError(f"line {number}: names no owner: expected OWNER: sha256:HASH")
    if not OWNER.fullmatch(owner):
        raise KeyLineError(f"line {number}: an owner is letters, digits and any of . _ @ -, 253 at most")
    return Entry(owner, bytes.fromhex(found["digest"]))


class KeySet:
    """The keys that are taken, by their hash: one look-up however many they are."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._by_digest: Mapping[bytes, Entry] = {entry.digest: entry for entry in entries}

    def __len__(self) -> int:
        return len(self._by_digest)

    def owner_of(self, key: bytes) -> str | None:
        """Return whose key this is, or None if it is nobody's.

        The look-up is by hash, so its time tells nothing about a key; the comparison takes the same time for all.
        """
        digest = digest_of(key)
        entry = self._by_digest.get(digest)
        if entry is None or not compare_digest(entry.digest, digest):
            return None
        return entry.owner
