"""One request at a time, for answers that are read and checked."""

import contextlib
import http.client
from urllib.parse import urlsplit

from benchmarks.payloads import Payload, Reply


def post(url: str, payload: Payload, timeout: float = 60.0) -> Reply:
    """Return the answer to one POST. Raises OSError or http.client.HTTPException."""
    parts = urlsplit(url)
    with contextlib.closing(http.client.HTTPConnection(parts.netloc, timeout=timeout)) as connection:
        connection.request("POST", parts.path, payload.body, dict(payload.headers))
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, headers, answer.read())
