"""How the operator asks a pod's model before callers do.

POST of `PATH` on the HTTP port with the pod's token in `HEADER`, and

    {"requests": [{"inputs": [TENSOR, …], "data": {NAME: SHAPE, …}}, …]}

where TENSOR is the Open Inference Protocol's, its data as JSON, and `data` names the outputs whose data is to be
answered, each where it has this shape; without it none is. The answer is

    {"name": …, "version": …, "sha256": …, "smoke": RESULT, "answers": [RESULT, …]}

with the model's name, its revision and the digest of the bytes that were loaded; `smoke` is a run on an example of the
model's own inputs, `answers` are in the order of the requests. RESULT is {"outputs": [TENSOR, …], "finite": …} with
all outputs, or {"error": …} in words, as where one is not of the shape that the model declares. A tensor's `data` is a
flat list, with null for NaN and infinity, and missing where it was not asked for: answers are small, however large the
outputs are. `finite` tells whether there is no NaN and no infinity in any output.

401: not the token. 404: the server has no key. 400: not of this form. 503: no answer now, ask again.
"""

import hashlib
import hmac

PATH = "/onceserve/v1/verification"

HEADER = "onceserve-verification"
"""Request header with the token."""

RUN_TIMEOUT = 60.0
"""Seconds that a run may take in a server that is not told otherwise; the example is one, and so is each request."""


def token(secret: bytes, namespace: str, revision: str) -> str:
    """Return the token for the pods of a revision: who has one can neither make another nor find the secret."""
    return hmac.new(secret, f"{namespace}/{revision}".encode(), hashlib.sha256).hexdigest()


def key(token: str) -> str:
    """Return by what a pod knows its token: anybody who can read the pod may read it."""
    return hashlib.sha256(token.encode()).hexdigest()
