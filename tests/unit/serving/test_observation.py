import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from onceserve_serving import logs, observation, tracing
from onceserve_serving.errors import ExecutionFailedError, InvalidRequestError, StoreBusyError
from onceserve_serving.observation import GRPC, Observation, Observer
from onceserve_serving.tracing import Attributes

PATH = "/v2/models/risk/infer"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01".encode()
FIVE = {"status", "model", "tenant", "error", "seconds"}


class Recorded:
    """A trace that keeps what it is told."""

    trace_id = TRACE

    def __init__(self) -> None:
        self.children: list[Any] = []
        self.ended: list[Any] = []

    def child(self, name: str, began: float, ended: float, attributes: Attributes) -> None:
        self.children.append((name, began, ended, dict(attributes)))

    def end(self, attributes: Attributes, failure: str = "") -> None:
        self.ended.append((dict(attributes), failure))


@pytest.fixture(autouse=True)
def nobody() -> Iterator[None]:
    token = logs.request.set(None)
    yield
    logs.request.reset(token)


def observed(headers: dict[bytes, bytes] | None = None) -> Observation:
    return Observer().begin("POST", PATH, headers or {})


def failed(error: Exception) -> Observation:
    seen = observed({b"x-request-id": b"q-1"})
    seen.model, seen.tenant, seen.error = "risk", "ann", error
    return seen


def test_a_request_keeps_the_id_that_it_came_with() -> None:
    assert observed({b"x-request-id": b"q-1"}).request_id == "q-1"


@pytest.mark.parametrize("given", [b"", b"a b", b"x" * 129, b"a\nb", b"\xff", b'{"a":\t1}'])
def test_a_request_gets_an_id_of_its_own_where_none_came_that_a_log_can_carry(given: bytes) -> None:
    one, other = observed({b"x-request-id": given}), observed()
    assert one.request_id == one.request_id
    assert one.request_id.encode() != given
    assert one.request_id != other.request_id


@pytest.mark.parametrize(
    ("given", "found"),
    [(PARENT, TRACE), (PARENT.upper(), ""), (b"00-" + TRACE.encode(), ""), (b"", "")],
)
def test_the_callers_trace_is_named_even_where_none_is_recorded(given: bytes, found: str) -> None:
    assert observed({b"traceparent": given}).trace_id == found


async def test_lines_carry_the_ids_of_the_request_that_their_task_answers() -> None:
    formatter = logs.JsonFormatter()

    async def answer(number: int) -> Any:
        Observer().begin("POST", PATH, {b"x-request-id": b"q-%d" % number, b"traceparent": PARENT})
        await asyncio.sleep(0)
        return orjson.loads(formatter.format(logging.makeLogRecord({"msg": "hello"})))

    lines = await asyncio.gather(*(asyncio.create_task(answer(number)) for number in range(3)))
    assert [line["request_id"] for line in lines] == ["q-0", "q-1", "q-2"]
    assert {line["trace_id"] for line in lines} == {TRACE}


@pytest.mark.parametrize("status", [500, 503, 504])
def test_a_failure_of_the_server_is_told_with_its_cause(status: int, caplog: pytest.LogCaptureFixture) -> None:
    Observer().end(failed(ExecutionFailedError("Log of -1")), status, 0.25)
    [record] = caplog.records
    assert (record.levelname, record.getMessage()) == ("ERROR", f"{PATH} failed: Log of -1")
    assert {name: vars(record)[name] for name in FIVE} == {
        "status": status,
        "model": "risk",
        "tenant": "ann",
        "error": "ExecutionFailedError",
        "seconds": 0.25,
    }


def test_a_refusal_of_what_is_too_much_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    Observer().end(failed(StoreBusyError()), 503, 0.25)
    [record] = caplog.records
    assert (record.levelname, vars(record)["error"]) == ("WARNING", "StoreBusyError")
    assert "as many requests wait for the store that keeps the answers as may" in record.getMessage()


def test_the_callers_mistakes_and_what_goes_well_are_not_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    Observer().end(failed(InvalidRequestError("no")), 400, 0.25)
    Observer().end(observed(), 200, 0.25)
    assert caplog.records == []


def test_an_access_log_tells_of_all(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    observer = Observer(access_log=True)
    observer.end(observed(), 200, 0.25)
    observer.end(failed(InvalidRequestError("no")), 400, 0.25, "INVALID_ARGUMENT")
    assert [record.getMessage() for record in caplog.records] == [f"{PATH} 200", f"{PATH} INVALID_ARGUMENT"]
    assert vars(caplog.records[1])["error"] == "InvalidRequestError"


def test_what_a_caller_made_up_is_told_in_short(caplog: pytest.LogCaptureFixture) -> None:
    seen = Observer().begin(GRPC, "/" + "p" * 10_000, {})
    seen.model, seen.error = "m" * 10_000, ExecutionFailedError("no")
    Observer().end(seen, 500, 0.1)
    assert len(caplog.records[0].getMessage()) < 1100
    assert len(vars(caplog.records[0])["model"]) == 1024


def test_a_trace_hears_of_the_queue_the_run_and_the_end() -> None:
    trace = Recorded()
    seen = Observation(PATH, {b"x-request-id": b"q-1"}, trace)
    seen.model = "risk"
    logs.request.set(seen)
    now = time.monotonic()
    observation.ran(now - 2, now - 1, now, 4)
    [queue, compute] = trace.children
    assert queue == ("queue", now - 2, now - 1, {})
    assert (*compute[:2], compute[3]) == ("compute", now - 1, {"onceserve.batch.size": 4})
    assert now <= compute[2] <= time.monotonic()
    seen.error = ExecutionFailedError("Log of -1")
    Observer().end(seen, 500, 0.1)
    facts = {
        "onceserve.model.name": "risk",
        "onceserve.request.id": "q-1",
        "error.type": "ExecutionFailedError",
        "http.response.status_code": 500,
    }
    assert trace.ended == [(facts, "Log of -1")]


def test_what_never_ran_was_only_queued() -> None:
    trace = Recorded()
    logs.request.set(Observation(PATH, {}, trace))
    observation.ran(1.0, 0.0, 0.0, 0)
    assert [child[0] for child in trace.children] == ["queue"]


def test_without_a_trace_a_run_is_nobodys_business() -> None:
    observation.ran(1.0, 2.0, 0.0, 4)
    observed()
    observation.ran(1.0, 2.0, 0.0, 4)


@pytest.mark.parametrize(
    ("environ", "answer"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
    ],
)
def test_traces_are_wanted_where_a_collector_is_named(environ: dict[str, str], answer: bool) -> None:
    assert tracing.wanted(environ) is answer


def test_a_protocol_that_is_not_spoken_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    asked = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    assert not tracing.wanted(asked)
    assert "asks for 'grpc', spoken is 'http/protobuf'" in caplog.text


def test_without_a_collector_neither_sdk_nor_exporter_is_imported() -> None:
    code = (
        "import sys, onceserve_serving.serve as s; from onceserve_serving import tracing; "
        "assert tracing.from_environment('1', 'i', {}) is None; "
        "print([name for name in ('opentelemetry.sdk', 'opentelemetry.exporter', 'requests') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout == "[]\n"


def test_grpc_calls_are_named_as_the_conventions_say() -> None:
    begun: list[Any] = []

    class Tracing:
        def begin(self, *arguments: Any) -> Recorded:
            begun.append(arguments)
            return Recorded()

    tracer: Any = Tracing()
    Observer(tracer).begin(GRPC, "/inference.GRPCInferenceService/ModelInfer", {b"traceparent": PARENT})
    Observer(tracer).begin("POST", "/v2/models/m/versions/1/infer", {})
    method = "inference.GRPCInferenceService/ModelInfer"
    route = "/v2/models/{model}/versions/{version}/infer"
    assert begun[0] == (method, {"rpc.system.name": "grpc", "rpc.method": method}, {"traceparent": PARENT.decode()})
    assert begun[1][0] == f"POST {route}"
    assert begun[1][1]["http.route"] == route
