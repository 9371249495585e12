"""What this server makes of the keys that its callers send."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from onceserve_serving.errors import InvalidKeyError
from onceserve_serving.idempotency import fingerprint, key
from onceserve_serving.idempotency.fingerprint import Fingerprinter

HEADER: Final = b"idempotency-key"
PREFER: Final = b"prefer"

_WAIT: Final = re.compile(rb"(?:^|[,;\s])wait\s*=\s*(\d+)(?=$|[,;\s])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Keys:
    """By default keys are refused: one that is taken and not heeded would be worse than none.

    `scope` is what keys are unique in besides the caller and the route; `waits`: callers wait for a run elsewhere.
    """

    taken: bool = False
    required: bool = False
    scope: bytes = b""
    waits: bool = False
    fingerprinter: Fingerprinter = field(default_factory=Fingerprinter)

    def of(self, values: Sequence[bytes]) -> bytes | None:
        """Return the key in the values of a request's headers, None if it has none; raises InvalidKeyError."""
        found = key.parse(values)
        if found is None and self.required:
            raise InvalidKeyError(f"an Idempotency-Key is required here; {key.EXPECTED}")
        if found is not None and not self.taken:
            raise InvalidKeyError(
                "this server keeps no answers, so that it cannot heed an Idempotency-Key: it has no idempotency store"
            )
        return found

    def record(self, found: bytes, tenant: str, route: str) -> bytes:
        """Return the identity of a key's record: 32 bytes."""
        return key.record_of(tenant.encode(), self.scope, route.encode(), key=found)

    def wait(self, prefer: bytes | None, most: float) -> float:
        """Return the seconds that a caller waits for a run elsewhere, by its Prefer header and the settings."""
        if prefer is not None and (asked := _WAIT.search(prefer)):
            return min(float(asked[1]), most)
        return most if self.waits else 0.0


def make(*, mode: str, store: str, scope: str, on_conflict: str, secret: Path | None) -> Keys:
    """Return what the settings say of keys; raises InvalidSettingsError."""
    return Keys(
        taken=bool(store) and mode != "disabled",
        required=mode == "required",
        scope=scope.encode(),
        waits=on_conflict == "wait",
        fingerprinter=fingerprint.from_file(secret),
    )
