"""Errors in gRPC's terms."""

from typing import Any
from unittest.mock import AsyncMock

import grpc
import pytest

from onceserve_serving.api.grpc import errors
from onceserve_serving.api.problems import KINDS, kind_of
from onceserve_serving.errors import InvalidRequestError, NotReadyError, OnceServeError, OverloadedError


class EndedError(Exception):
    """What gRPC's abort raises."""


async def aborted(error: Exception) -> Any:
    context = AsyncMock()
    context.abort.side_effect = EndedError
    with pytest.raises(EndedError):
        await errors.abort(context, *kind_of(error), error)
    code, detail, metadata = context.abort.await_args.args
    return code, detail, dict(metadata)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.slug)
def test_every_kind_of_error_names_a_status(kind: Any) -> None:
    assert grpc.StatusCode[kind.grpc] is not grpc.StatusCode.OK


async def test_an_error_says_what_it_says_over_http() -> None:
    assert await aborted(InvalidRequestError("no")) == (grpc.StatusCode.INVALID_ARGUMENT, "no", {})


async def test_what_nobody_foresaw_is_not_told() -> None:
    code, detail, _ = await aborted(KeyError("secret"))
    assert code is grpc.StatusCode.INTERNAL
    assert "secret" not in detail


@pytest.mark.parametrize("words", ["x" * 100_000, "ü" * 100_000, "🙂" * 100_000])
async def test_a_long_message_fits_what_clients_take(words: str) -> None:
    _, detail, _ = await aborted(InvalidRequestError(words))
    assert len(detail.encode()) <= errors.MOST_BYTES
    assert detail.startswith(words[:100])
    assert detail.endswith("…")


@pytest.mark.parametrize(
    ("error", "milliseconds"), [(OverloadedError("busy", 2.5), "2500"), (NotReadyError("loading"), "1000")]
)
async def test_who_should_come_back_is_told_when(error: OnceServeError, milliseconds: str) -> None:
    _, _, metadata = await aborted(error)
    assert metadata[errors.PUSHBACK] == milliseconds
    assert errors.DETAILS in metadata
