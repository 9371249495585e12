"""Which request it was: a keyed hash, so that who reads a store cannot try out what was asked."""

import hashlib
import hmac
from pathlib import Path
from typing import Final

from onceserve_serving.errors import InvalidSettingsError
from onceserve_serving.idempotency.record import KEY_ID_BYTES, Fingerprint
from onceserve_serving.tensors import Buffer

SHORTEST: Final = 16
"""Characters that a secret must have."""

MOST: Final = 2

NO_SECRET: Final = b"onceserve: no secret was configured"
"""Stands in for a secret. Fingerprints then tell requests apart, and hide nothing of those that can be guessed."""

OPTION: Final = "--idempotency-secret (or ONCESERVE_IDEMPOTENCY_SECRET)"


class Fingerprinter:
    """Makes fingerprints with a secret, and with the one before it while secrets are rotated."""

    def __init__(self, secrets: tuple[bytes, ...] = (NO_SECRET,)) -> None:
        self._secrets = [(_key_id(secret), secret) for secret in secrets]

    def of(self, head: bytes, body: Buffer) -> Fingerprint:
        """Return the fingerprint of a request; `head` has all of it that is not the body."""
        content = b"".join((b"%d:" % len(head), head, body))
        return Fingerprint(*[key_id + hmac.digest(secret, content, "sha256") for key_id, secret in self._secrets])


def from_file(path: Path | None) -> Fingerprinter:
    """Return the fingerprinter for a file of one secret a line, the present one first; raises InvalidSettingsError."""
    if path is None:
        return Fingerprinter()
    try:
        secrets = tuple(path.read_bytes().split())
    except OSError as error:
        raise InvalidSettingsError(f"{OPTION}: cannot read {path}: {error.strerror}") from error
    if not 1 <= len(secrets) <= MOST or min(map(len, secrets)) < SHORTEST:
        raise InvalidSettingsError(
            f"{OPTION}: expected in {path} one secret, or the present one and the one before it, each on a line of its "
            f"own, of {SHORTEST} characters or more"
        )
    return Fingerprinter(secrets)


def _key_id(secret: bytes) -> bytes:
    return hashlib.sha256(b"key id:" + secret).digest()[:KEY_ID_BYTES]
