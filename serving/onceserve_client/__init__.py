"""Calls for httpx that are answered once: each has an Idempotency-Key, under which it is made until it is answered.

    client = httpx.Client(transport=onceserve_client.Transport())

For servers that heed the key (draft-ietf-httpapi-idempotency-key-header): one that ignores it runs a call as often as
it arrives, and nothing that a client does changes that.
"""

from onceserve_client.answers import attempt, replayed
from onceserve_client.call import StreamedBodyError
from onceserve_client.policy import Policy
from onceserve_client.transports import AsyncTransport, Transport

__all__ = ["AsyncTransport", "Policy", "StreamedBodyError", "Transport", "attempt", "replayed"]
