"""Traces and logs of requests: spans at a real collector, ids in every line, no harm from a collector that is gone."""

import socket
import time
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from contract.serving.collector import Collector, values
from contract.serving.conftest import EXAMPLE, Serve
from contract.serving.process import Server, client, row, until
from onceserve_serving.proto import open_inference_pb2 as messages
from unit.serving import models

INFER = "/v2/models/risk/infer"
BODY = row("X", "FP32", [1] * 30, [1, 30])
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
PROMPT = {"OTEL_BSP_SCHEDULE_DELAY": "20"}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as one:
        yield one


def traced(serve: Serve, collector: Collector, model: Any = EXAMPLE / "model.onnx", **environment: str) -> Server:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **PROMPT, **environment}
    return serve(model, "--name", "risk", "--grpc-port", "0", "--pod-name", "pod-7", **environment).ready()


def by_name(spans: list[Span]) -> dict[str, Span]:
    return {span.name: span for span in spans}


def test_a_request_is_a_span_in_its_callers_trace_with_queue_and_compute_in_it(
    serve: Serve, collector: Collector
) -> None:
    server = traced(serve, collector)
    before = time.time_ns()
    for caller in client(server):
        headers = {"traceparent": TRACEPARENT, "tracestate": "vendor=1", "X-Request-Id": "q-1"}
        answer = caller.post(INFER, json=BODY, headers=headers)
    assert (answer.status_code, answer.headers["x-request-id"]) == (200, "q-1")
    spans = by_name(collector.await_spans(lambda spans: len(spans) == 3))
    request, queue, compute = spans["POST /v2/models/{model}/infer"], spans["queue"], spans["compute"]
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    assert (request.parent_span_id.hex(), request.trace_state) == (PARENT, "vendor=1")
    assert queue.parent_span_id == compute.parent_span_id == request.span_id
    assert (request.kind, queue.kind) == (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_INTERNAL)
    assert values(request.attributes) == {
        "http.request.method": "POST",
        "http.route": "/v2/models/{model}/infer",
        "http.response.status_code": 200,
        "url.path": INFER,
        "onceserve.model.name": "risk",
        "onceserve.request.id": "q-1",
    }
    assert values(compute.attributes) == {"onceserve.batch.size": 1}
    moments = [before, request.start_time_unix_nano, queue.start_time_unix_nano, queue.end_time_unix_nano]
    moments += [compute.start_time_unix_nano, compute.end_time_unix_nano, request.end_time_unix_nano, time.time_ns()]
    assert moments == sorted(moments)
    resource = collector.resources[0]
    assert (resource["service.name"], resource["service.instance.id"]) == ("onceserve", "pod-7")


def test_a_request_without_a_trace_begins_one_and_a_trace_that_is_not_sampled_is_not_sent(
    serve: Serve, collector: Collector
) -> None:
    server = traced(serve, collector, OTEL_RESOURCE_ATTRIBUTES="service.name=scoring,team=a")
    for caller in client(server):
        caller.post(INFER, json=BODY, headers={"traceparent": TRACEPARENT[:-1] + "0"})
        caller.post(INFER, json=BODY, headers={"traceparent": "nonsense"})
    spans = collector.await_spans(lambda spans: len(spans) == 3)
    server.signal()
    assert server.wait() == 0
    assert len(collector.spans) == 3
    assert {span.trace_id.hex() for span in spans}.isdisjoint({TRACE, "0" * 32})
    assert collector.resources[0]["service.name"] == "scoring"
    assert collector.resources[0]["team"] == "a"


def test_a_failure_is_marked_in_the_trace_and_told_in_the_log(serve: Serve, collector: Collector) -> None:
    server = traced(serve, collector, models.unary("Log", shape=["N"]))
    for caller in client(server):
        headers = {"traceparent": TRACEPARENT, "X-Request-Id": "q-2"}
        answer = caller.post(INFER, json=row("x", "FP32", [-1]), headers=headers)
        caller.post(INFER, json=row("x", "FP32", ["a"]), headers={"X-Request-Id": "q-3"})
    assert answer.status_code == 500
    spans = collector.await_spans(lambda spans: sum(span.kind == Span.SPAN_KIND_SERVER for span in spans) == 2)
    servers = {values(span.attributes)["onceserve.request.id"]: span for span in spans if span.name.startswith("POST")}
    assert servers["q-2"].status.code == Status.STATUS_CODE_ERROR
    assert values(servers["q-2"].attributes)["error.type"] == "UnrepresentableOutputError"
    assert servers["q-3"].status.code == Status.STATUS_CODE_UNSET
    [line] = [one for one in server.records() if one["level"] == "error"]
    assert (line["request_id"], line["trace_id"], line["model"], line["status"]) == ("q-2", TRACE, "risk", 500)
    assert answer.json()["error"] in line["message"]


async def test_grpc_calls_are_traced_alike(serve: Serve, collector: Collector) -> None:
    server = traced(serve, collector)
    tensor = {"name": "X", "datatype": "FP32", "shape": [1, 30], "contents": {"fp32_contents": [1] * 30}}
    asked = messages.ModelInferRequest(model_name="risk", inputs=[tensor]).SerializeToString()
    async with grpc.aio.insecure_channel(server.grpc_target()) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        await infer(asked, metadata=[("traceparent", TRACEPARENT)], timeout=20)
    spans = by_name(collector.await_spans(lambda spans: len(spans) == 3))
    request = spans["inference.GRPCInferenceService/ModelInfer"]
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT)
    assert spans["compute"].parent_span_id == request.span_id
    facts = values(request.attributes)
    assert facts["rpc.system.name"] == "grpc"
    assert facts["rpc.method"] == "inference.GRPCInferenceService/ModelInfer"
    assert facts["rpc.response.status_code"] == "OK"


def test_the_last_spans_are_sent_when_the_server_stops(serve: Serve, collector: Collector) -> None:
    server = traced(serve, collector, OTEL_BSP_SCHEDULE_DELAY="60000")
    for caller in client(server):
        assert [caller.post(INFER, json=BODY).status_code for _ in range(5)] == [200] * 5
    assert collector.spans == []
    server.signal()
    assert server.wait() == 0
    assert len(collector.spans) == 15


@pytest.mark.parametrize("silent", [True, False])
def test_a_collector_that_is_gone_neither_fails_nor_slows_nor_keeps_anybody(serve: Serve, *, silent: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if not silent:
            listener.close()
            endpoint = "http://127.0.0.1:9"
        else:
            endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        options = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint, "OTEL_BSP_MAX_QUEUE_SIZE": "64"}
        options |= {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "16", **PROMPT}
        server = serve(EXAMPLE / "model.onnx", "--name", "risk", **options).ready()
        seconds = []
        for caller in client(server):
            for _ in range(500):
                began = time.perf_counter()
                assert caller.post(INFER, json=BODY).status_code == 200
                seconds.append(time.perf_counter() - began)
        assert sorted(seconds)[len(seconds) // 2] < 0.05
        assert max(seconds) < 2
        server.signal()
        began = time.monotonic()
        assert server.wait() == 0
        assert time.monotonic() - began < 6
    assert len(server.log().splitlines()) < 50


def test_an_access_log_is_written_where_it_is_asked_for(serve: Serve) -> None:
    server = serve(EXAMPLE / "model.onnx", "--name", "risk", "--access-log").ready()
    for caller in client(server):
        caller.post(f"{INFER}?signature=hidden", json=BODY, headers={"traceparent": TRACEPARENT, "X-Request-Id": "q-1"})
        caller.post(INFER, json=BODY)
    found = until(lambda: [one for one in server.records() if one["logger"] == "onceserve_serving.access"], "a line")
    assert {**found[0], "time": "", "seconds": 0} == {
        "time": "",
        "level": "info",
        "logger": "onceserve_serving.access",
        "message": f"{INFER} 200",
        "request_id": "q-1",
        "trace_id": TRACE,
        "path": INFER,
        "status": 200,
        "seconds": 0,
        "model": "risk",
    }
    assert found[1]["request_id"] not in {"", "q-1"}
    assert "hidden" not in server.log()


def test_a_failed_request_without_tracing_is_still_told_with_its_ids(serve: Serve) -> None:
    server = serve(models.unary("Log", shape=["N"]), "--name", "risk").ready()
    with httpx.Client(base_url=server.url(), trust_env=False) as caller:
        answer = caller.post(INFER, json=row("x", "FP32", [-1]), headers={"traceparent": TRACEPARENT})
    [line] = [one for one in server.records() if one["level"] == "error"]
    assert (line["request_id"], line["trace_id"]) == (answer.headers["x-request-id"], TRACE)
