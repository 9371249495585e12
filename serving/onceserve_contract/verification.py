"""How the operator asks a pod's model before callers do.

POST of `PATH` on the HTTP port with the pod's token in `HEADER`, and

    {"requests": [{"inputs": [TENSOR, …]}, …]}

where TENSOR is the Open Inference Protocol's, its data as JSON. The answer is

    {"name": …, "version": …, "sha256": …, "smoke": RESULT, "answers": [RESULT, …]}

with the model's name, its revision and the digest of the bytes that were loaded; `smoke` is a run on an example of the
model's own inputs, `answers` are in the order of the requests. RESULT is {"outputs": [TENSOR, …], "finite": …}, where
null stands for NaN and infinity and `finite` tells whether there is none, or {"error": …} in words.

401: not the token. 404: the server has no key. 400: not of this form. 503: no answer now, ask again.
"""

import hashlib
import hmac

PATH = "/onceserve/v1/verification"

HEADER = "onceserve-verification"
"""Request header with the token."""


def token(secret: bytes, namespace: str, revision: str) -> str:
    """Return the token for the pods of a revision: who has one can neither make another nor find the secret."""
    return hmac.new(secret, f"{namespace}/{revision}".encode(), hashlib.sha256).hexdigest()


def key(token: str) -> str:
    """Return by what a pod knows its token: anybody who can read the pod may read it."""
    return hashlib.sha256(token.encode()).hexdigest()
