"""What an answer says of its key; pure."""

import httpx


def replayed(response: httpx.Response) -> bool:
    """Tell whether the server says that it has given this answer before: False if it says nothing."""
    told: str = response.headers.get("Idempotent-Replayed", "")
    return told.lower() == "true"


def attempt(response: httpx.Response) -> int | None:
    """Return which run of the request gave the answer, from 1 on: None if the server says nothing, as of a replay."""
    told = response.headers.get("Idempotency-Attempt", "")
    return int(told) if told.isascii() and told.isdigit() and len(told) <= 9 else None  # noqa: PLR2004
