"""Keys over gRPC: the same promises, in metadata and trailers."""

from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
import pytest

from contract.idempotency import dice
from contract.idempotency.dice import new_key
from contract.idempotency.fleet import LOOKUP, Fleet, executions, outcomes
from contract.serving import grpc_calls
from contract.serving.process import Server

Trailers = dict[str, str]


def thrown(work: int = 0) -> Any:
    outputs = [{"name": name} for name in ("y", "dice")]
    return grpc_calls.request(dice.NAME, "n", np.array([work]), outputs=outputs)


async def ask(server: Server, request: Any, *metadata: tuple[str, str]) -> tuple[Any, Trailers]:
    """Return the answer, or its error, and the trailers."""
    async with grpc_calls.stub(server.ready().grpc_target()) as stub:
        call = stub.ModelInfer(request, metadata=metadata, timeout=20)
        try:
            answer: Any = await call
        except grpc.aio.AioRpcError as error:
            answer = error
        return answer, dict(await call.trailing_metadata())


def error_of(answer: Any) -> tuple[str, str]:
    assert isinstance(answer, grpc.aio.AioRpcError), answer
    return answer.code().name, answer.details() or ""


async def test_all_get_the_bytes_of_the_first(pair: Fleet) -> None:
    key, ran = ("idempotency-key", new_key()), sum(map(executions, pair.servers))
    (first, told), *others = [await ask(server, thrown(), key) for server in pair.servers * 2]
    assert (told["idempotency-attempt"], told["idempotency-model-version"]) == ("1", "r1")
    assert "idempotent-replayed" not in told
    for answer, trailers in others:
        assert answer.SerializeToString() == first.SerializeToString()
        assert (trailers["idempotent-replayed"], trailers["idempotency-model-version"]) == ("true", "r1")
        assert "idempotency-attempt" not in trailers
    assert sum(map(executions, pair.servers)) == ran + 1


async def test_an_error_of_the_model_is_an_answer(pair: Fleet) -> None:
    key, outside = ("idempotency-key", f'"{new_key()}"'), grpc_calls.request(LOOKUP, "x", np.array([-9]))
    (first, told), *others = [await ask(server, outside, key) for server in pair.servers * 2]
    assert error_of(first)[0] == "INVALID_ARGUMENT"
    assert told["idempotency-attempt"] == "1"
    for answer, trailers in others:
        assert error_of(answer) == error_of(first)
        assert trailers["idempotent-replayed"] == "true"


async def test_another_request_under_the_key_is_refused(pair: Fleet) -> None:
    key = ("idempotency-key", new_key())
    await ask(pair.servers[0], thrown(), key)
    for server in pair.servers:
        code, words = error_of((await ask(server, thrown(1), key))[0])
        assert code == "FAILED_PRECONDITION"
        assert "another request" in words


@pytest.mark.parametrize("keys", [("",), ("two words",), ("a" * 256,), ("a", "b")], ids=repr)
async def test_what_is_no_key_is_refused(pair: Fleet, keys: Sequence[str]) -> None:
    code, words = error_of((await ask(pair.servers[0], thrown(), *[("idempotency-key", key) for key in keys]))[0])
    assert (code, "Idempotency-Key" in words) == ("INVALID_ARGUMENT", True)


async def test_http_and_grpc_have_keys_of_their_own(pair: Fleet) -> None:
    """An answer is kept as it was sent, and what is sent over HTTP is of no use over gRPC."""
    key, server = new_key(), pair.servers[0].ready()
    fresh = outcomes(server, "first")
    async with grpc_calls.stub(server.grpc_target()):
        _, trailers = await ask(server, thrown(), ("idempotency-key", key))
    assert "idempotent-replayed" not in trailers
    assert outcomes(server, "first") == fresh + 1


async def test_a_key_that_would_not_be_heeded_is_refused(file_fleet: Fleet) -> None:
    server = file_fleet.start("--idempotency-mode", "disabled", "--grpc-port", "0")
    code, words = error_of((await ask(server, thrown(), ("idempotency-key", "a")))[0])
    assert (code, "keeps no answers" in words) == ("INVALID_ARGUMENT", True)


async def test_a_key_may_be_required(file_fleet: Fleet) -> None:
    server = file_fleet.start("--idempotency-mode", "required", "--grpc-port", "0")
    code, words = error_of((await ask(server, thrown()))[0])
    assert (code, "required" in words) == ("INVALID_ARGUMENT", True)
