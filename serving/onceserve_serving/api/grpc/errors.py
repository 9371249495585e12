"""Errors in gRPC's terms, by the one table of `api.problems`."""

from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from onceserve_serving.api.problems import Kind
from onceserve_serving.errors import RetryLaterError

if TYPE_CHECKING:
    Context: TypeAlias = grpc.aio.ServicerContext

Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]

MOST_BYTES: Final = 2048
"""Bytes of a message: clients drop a call whose headers have more than 8 KiB, in which each byte may take three."""

DETAILS: Final = "grpc-status-details-bin"
PUSHBACK: Final = "grpc-retry-pushback-ms"
"""Headers that tell when to try again: for people's code and for gRPC's own retries."""


async def abort(context: "Context", kind: Kind, detail: str, error: Exception, metadata: Metadata = ()) -> NoReturn:
    """End a call with an error's status, message and time to come back."""
    detail = shortened(detail)
    retry_after = _retry_after(kind, error)
    if retry_after is not None:
        metadata = (*metadata, *_retry(grpc.StatusCode[kind.grpc], detail, retry_after))
    await abort_as(context, kind.grpc, detail, metadata)


async def abort_as(context: "Context", code: str, detail: str, metadata: Metadata) -> NoReturn:
    """End a call with the status of this name."""
    await context.abort(grpc.StatusCode[code], detail, metadata)
    raise AssertionError("abort always raises")


def shortened(detail: str) -> str:
    """Return as much of a message as clients take."""
    content = detail.encode()
    return detail if len(content) <= MOST_BYTES else content[: MOST_BYTES - 3].decode(errors="ignore") + "…"


def _retry_after(kind: Kind, error: Exception) -> float | None:
    if isinstance(error, RetryLaterError):
        return error.retry_after
    seconds = kind.headers.get("Retry-After")
    return None if seconds is None else float(seconds)


def _retry(code: grpc.StatusCode, detail: str, seconds: float) -> Metadata:
    milliseconds = max(round(seconds * 1000), 1)
    delay = Duration()
    delay.FromMilliseconds(milliseconds)
    status = Status(code=code.value[0], message=detail)
    status.details.add().Pack(RetryInfo(retry_delay=delay))
    return (DETAILS, status.SerializeToString()), (PUSHBACK, str(milliseconds))
