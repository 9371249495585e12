"""SIGTERM under gRPC load: no call is lost, whichever way clients choose their server."""

import asyncio
import signal
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import pytest

from contract.serving import drains
from contract.serving.conftest import EXAMPLE, Serve
from contract.serving.drains import Drain, end, forked
from contract.serving.grpc_calls import outcome, request, stub
from contract.serving.process import Server, until
from contract.serving.zygote import Zygote
from unit.serving import models

QUICK = (EXAMPLE / "model.onnx").read_bytes()
SLOW = models.slow(500)
QUICK_CALL = request("m", "X", np.ones([1, 30], np.float32))
ROUND_ROBIN = [("grpc.lb_policy_name", "round_robin")]
CALLS = 100
"""Calls answered before the signal, and again after the server's end."""


@dataclass
class Load:
    """Clients that call over and over, several at a time on one channel."""

    request: Any
    answered: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    over: bool = False

    async def client(self, targets: list[str], options: Any) -> None:
        async with stub(*targets, options=options) as calls:
            await asyncio.gather(*(self._caller(calls) for _ in range(4)))

    async def _caller(self, calls: Any) -> None:
        while not self.over:
            found = await outcome(calls.ModelInfer(self.request))
            if found[0] == "OK":
                self.answered += 1
            else:
                self.failures.append(found)

    async def until(self, answered: int) -> None:
        while self.answered < answered and not self.failures:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.timeout(60 + 2 * drains.ROUNDS)
async def test_no_call_is_lost(serve: Serve, zygote: Zygote) -> None:
    stays = {model: serve(model, "--grpc-port", "0").ready().grpc_target() for model in (QUICK, SLOW)}

    async def once(number: int) -> Drain:
        model, tensor = (SLOW, request("m", "n", np.array([0]))) if number % 2 else (QUICK, QUICK_CALL)
        policy = ROUND_ROBIN if number % 4 < 2 else []
        async with forked(zygote, model, "--grpc-port", "0", "--drain-timeout", "4") as server:
            return await under_load(server, [server.grpc_target(), stays[model]], tensor, policy)

    await drains.repeat(8, once)


async def under_load(server: Server, targets: list[str], asked: Any, policy: Any) -> Drain:
    load = Load(asked)
    tasks = [asyncio.create_task(load.client(targets, policy)) for _ in range(2)]
    await load.until(CALLS)
    drain = await end(server)
    await load.until(load.answered + CALLS)
    load.over = True
    await asyncio.gather(*tasks)
    drain.answered = load.answered
    drain.failures += map(str, load.failures)
    return drain


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_what_is_in_flight_is_answered(serve: Serve, number: signal.Signals) -> None:
    server = serve(SLOW, "--grpc-port", "0").ready()
    async with stub(server.grpc_target()) as calls:
        asking = asyncio.create_task(outcome(calls.ModelInfer(request("m", "n", np.array([200_000])))))
        await until_running(server)
        server.signal(number)
        assert (await asking)[0] == "OK"
    assert await asyncio.to_thread(server.wait, 20) == 0


async def test_a_second_signal_cuts(serve: Serve) -> None:
    server = serve(SLOW, "--grpc-port", "0").ready()
    async with stub(server.grpc_target()) as calls:
        asking = asyncio.create_task(outcome(calls.ModelInfer(request("m", "n", np.array([4_000_000])))))
        await until_running(server)
        server.signal()
        await asyncio.to_thread(until, lambda: "draining" in server.log(), "the first signal is taken")
        server.signal()
        assert await asyncio.to_thread(server.wait, 5) == 0
        assert (await asking)[0] in ("UNAVAILABLE", "CANCELLED")


async def test_an_idle_client_does_not_hold_up_the_stop(serve: Serve) -> None:
    server = serve(QUICK, "--grpc-port", "0").ready()
    async with stub(server.grpc_target()) as calls:
        assert (await outcome(calls.ModelInfer(request("m", "X", np.ones([1, 30], np.float32)))))[0] == "OK"
        server.signal()
        assert await asyncio.to_thread(server.wait, 4) == 0


async def until_running(server: Server) -> None:
    def running() -> bool:
        return "onceserve_inflight_requests 1.0" in httpx.get(f"{server.url()}/metrics", trust_env=False).text

    await asyncio.to_thread(until, running, "the call runs")
