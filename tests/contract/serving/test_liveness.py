"""A server that can infer no more is found out by its probes, over both protocols; one that is merely busy is not."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from contract.serving.conftest import Serve
from contract.serving.process import Server, row, until
from unit.serving import models

INFER = "/v2/models/m/infer"
LIVE, READY = "/v2/health/live", "/v2/health/ready"
FOREVER = row("n", "INT64", [10**12])

KUBELET = 2.0
"""Seconds that a kubelet waits for the answer of the quickest of the probes that a pod has."""

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

KILLER = """
import ctypes, signal, threading

def end(*_):
    for thread in threading.enumerate():
        if thread.name.startswith("inference"):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))

signal.signal(signal.SIGUSR1, end)
"""
"""Ends the inference thread of the process that finds this as its `sitecustomize`, at its next step."""


def ask_in_vain(server: Server, body: Any) -> None:
    """Ask and leave without an answer; what runs, runs on."""
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(server.url() + INFER, json=body, timeout=0.2, trust_env=False)


def probe(server: Server, path: str) -> httpx.Response:
    """Ask as a kubelet does: over a connection of its own, with a deadline."""
    return httpx.get(server.url() + path, timeout=KUBELET, trust_env=False)


def over_grpc(server: Server) -> tuple[bool, bool, int]:
    """Return what ServerLive, ServerReady and the health service say; raises grpc.RpcError."""
    with grpc.insecure_channel(server.grpc_target()) as channel:
        inference, health = service_pb2_grpc.GRPCInferenceServiceStub(channel), health_pb2_grpc.HealthStub(channel)
        return (
            inference.ServerLive(service_pb2.ServerLiveRequest(), timeout=KUBELET).live,
            inference.ServerReady(service_pb2.ServerReadyRequest(), timeout=KUBELET).ready,
            health.Check(health_pb2.HealthCheckRequest(), timeout=KUBELET).status,
        )


def check_neither_alive_nor_ready(server: Server, words: str) -> None:
    """Wait until liveness is gone, and find all other probes of the same mind."""
    until(lambda: probe(server, LIVE).status_code == 503, "liveness is gone")
    for path in (LIVE, READY):
        assert words in probe(server, path).json()["error"]
    assert over_grpc(server) == (False, False, NOT_SERVING)


def test_a_run_that_does_not_end_in_time(serve: Serve) -> None:
    server = serve(models.slow(1_000), "--inference-deadline", "1", "--grpc-port", "0").ready()
    ask_in_vain(server, FOREVER)
    assert probe(server, LIVE).status_code == 200
    check_neither_alive_nor_ready(server, "an inference of model 'm' has been running")
    server.signal()
    until(lambda: "SIGTERM: draining" in server.log(), "the first signal is taken")
    server.signal()
    assert server.wait(5) == 0


def test_an_inference_thread_that_has_ended(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(KILLER)
    server = serve(models.slow(1_000), "--grpc-port", "0", PYTHONPATH=str(tmp_path)).ready()
    assert over_grpc(server)[:2] == (True, True)
    server.signal(signal.SIGUSR1)
    until(lambda: probe(server, READY).status_code == 503, "the probe of readiness has taken the thread's last step")
    check_neither_alive_nor_ready(server, "the inference thread of model 'm' has ended")
    server.signal()
    assert server.wait(10) == 0


def test_a_run_that_blocks_the_event_loop_leaves_no_probe_an_answer(serve: Serve) -> None:
    # So short in its warm-up that it runs on the event loop.
    server = serve(models.slow(0), "--grpc-port", "0").ready()
    assert over_grpc(server)[:2] == (True, True)
    ask_in_vain(server, FOREVER)
    for path in (LIVE, READY):
        with pytest.raises(httpx.ReadTimeout):
            probe(server, path)
    with pytest.raises(grpc.RpcError) as caught:
        over_grpc(server)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_probes_of_a_busy_server_are_answered_in_time(serve: Serve) -> None:
    server = serve(models.slow(1_000), "--max-queue", "64", "--grpc-port", "0").ready()
    over = asyncio.Event()

    async def press(caller: httpx.AsyncClient) -> None:
        while not over.is_set():
            assert (await caller.post(INFER, json=row("n", "INT64", [0]))).status_code in (200, 429)

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=server.url(), trust_env=False, timeout=60, limits=limits) as caller:
        pressing = [asyncio.create_task(press(caller)) for _ in range(100)]
        for _ in range(10):
            for path in (LIVE, READY):
                assert (await asyncio.to_thread(probe, server, path)).status_code == 200
            assert (await asyncio.to_thread(over_grpc, server))[:2] == (True, True)
        over.set()
        await asyncio.gather(*pressing)
