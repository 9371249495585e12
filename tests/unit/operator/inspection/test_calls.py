import asyncio
import gzip
import json
import socket
import threading
import time
from collections.abc import Awaitable, Iterable, Mapping
from contextlib import ExitStack

import pytest
from aiohttp import web

from onceserve_contract import http, verification
from onceserve_operator.api.rollout import GoldenRequest, Tensor
from onceserve_operator.inspection import calls, measurement
from onceserve_operator.inspection.calls import Calls, NoAnswerError
from onceserve_operator.inspection.measurement import Sample
from unit.operator.inspection import misbehaving
from unit.operator.inspection.misbehaving import Handler, Pods, says

POD = "127.0.0.1"
TENSOR = Tensor(name="x", datatype="FP32", shape=[1, 2], data=[[0.5, None]])
GOLDEN = GoldenRequest(inputs=[TENSOR], expected=[TENSOR])


@pytest.fixture
def impatient(pods: Pods) -> Calls:
    return Calls(port=pods.port, run_timeout=1, metrics_timeout=1, query_timeout=1)


async def words(call: Awaitable[object]) -> str:
    with pytest.raises(NoAnswerError) as caught:
        await call
    return str(caught.value)


async def test_a_pod_is_asked_as_the_contract_says(pods: Pods) -> None:
    answer = await Calls(port=pods.port).verify(POD, "http", "token", [GOLDEN, GOLDEN])
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [[0.5, None]]}
    requests = [{"inputs": [tensor], "data": {"x": [1, 2]}}] * 2
    assert pods.bodies == [{"requests": requests}]
    assert json.loads(answer) == misbehaving.right_answer(requests)
    assert pods.tokens == ["token"]


async def test_data_is_not_asked_for_where_none_is_expected(pods: Pods) -> None:
    await Calls(port=pods.port).verify(POD, "http", "token", [GoldenRequest(inputs=[TENSOR])])
    assert pods.bodies[0]["requests"][0]["data"] == {}


async def test_counters_and_numbers_are_read(pods: Pods) -> None:
    pods.requests[POD] = {"200": 3, "503": 1}
    one = Calls(port=pods.port)
    expected = Sample({"200": 3, "503": 1}, {0.1: 4, 1.0: 4, float("inf"): 4})
    assert await one.sample(POD, "http") == expected
    assert await one.query(f"http://{POD}:{pods.port}/prefix/", "up + 1") == 0.25
    assert pods.bodies == ["up + 1"]
    assert pods.calls[POD, "/prefix/api/v1/query"] == 1


@pytest.mark.parametrize(
    ("behaviour", "told"),
    [
        (misbehaving.slow, "it did not answer within 1 s"),
        (misbehaving.drips, "it did not answer within 1 s"),
        (misbehaving.closes, "it cannot be called: ServerDisconnectedError: Server disconnected"),
        (says("<html>", 500), "it answered 500"),
        (says("", 302, Location="http://127.0.0.9/"), "it answered 302"),
        (says("", 204), "it answered 204"),
    ],
)
async def test_what_is_no_answer_is_told_of_every_call(
    pods: Pods, impatient: Calls, behaviour: Handler, told: str
) -> None:
    pods.behaviours[POD] = behaviour
    found = await asyncio.gather(
        words(impatient.verify(POD, "http", "token", [])),
        words(impatient.sample(POD, "http")),
        words(impatient.query(f"http://{POD}:{pods.port}", "up")),
    )
    assert set(found) == {told}
    assert not any(address == "127.0.0.9" for address, _ in pods.calls)


async def test_the_words_of_pods_alone_are_told(pods: Pods, impatient: Calls) -> None:
    pods.behaviours[POD] = says('{"error": "the model is loading"}', 503)
    assert await words(impatient.verify(POD, "http", "token", [])) == "it answered 503: the model is loading"
    assert await words(impatient.sample(POD, "http")) == "it answered 503: the model is loading"
    assert await words(impatient.query(f"http://{POD}:{pods.port}", "up")) == "it answered 503"


@pytest.mark.parametrize(
    "banner",
    [b"SSH-2.0-secret\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nsecret\r\n"],
)
async def test_what_is_no_http_is_not_repeated(banner: bytes) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(banner)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, POD, 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await words(Calls().query(f"http://{POD}:{port}", "up")) == "its answer is no HTTP"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"not json", "it answered no JSON"),
        (b"", "it answered no JSON"),
        (b"\xff\xfe\xff", "it answered no JSON"),
        (b"[" * 100_000, "it answered no JSON"),
        (b"9" * 10_000, "it answered no JSON"),
        (gzip.compress(b"{}", mtime=0), "it answered no JSON"),
        (b"[]", "it answered JSON that is no object"),
    ],
)
async def test_garbage_is_told_of(pods: Pods, body: bytes, told: str) -> None:
    pods.behaviours[POD] = says(body)
    assert await words(Calls().query(f"http://{POD}:{pods.port}", "up")) == told


async def test_a_query_without_a_result_is_told(pods: Pods) -> None:
    pods.behaviours[POD] = says('{"data": {"resultType": "vector", "result": []}}')
    assert await words(Calls().query(f"http://{POD}:{pods.port}", "up")) == "no result"


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", b"<html>", b"onceserve_requests_total{", misbehaving.exposition({"200": 1}).encode()[:-90]],
)
async def test_metrics_that_cannot_be_read_are_told(pods: Pods, body: bytes) -> None:
    pods.behaviours[POD] = says(body)
    assert (await words(Calls(port=pods.port).sample(POD, "http"))).startswith("its metrics cannot be read: ")


async def test_metrics_are_read_beside_the_event_loop(pods: Pods, monkeypatch: pytest.MonkeyPatch) -> None:
    real, threads = measurement.read, list[threading.Thread]()

    def read(points: Iterable[tuple[str, Mapping[str, str], float]]) -> Sample:
        threads.append(threading.current_thread())
        return real(points)

    monkeypatch.setattr(measurement, "read", read)
    await Calls(port=pods.port).sample(POD, "http")
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()


async def test_what_is_too_long_is_not_read_to_its_end(pods: Pods) -> None:
    pods.behaviours[POD] = misbehaving.endless
    one = Calls(port=pods.port)
    assert await words(one.verify(POD, "http", "token", [])) == "its answer is longer than 2097152 bytes"
    assert await words(one.sample(POD, "http")) == "its answer is longer than 1048576 bytes"


async def test_who_is_not_there_is_told() -> None:
    with socket.create_server((POD, 0)) as taken:
        free = taken.getsockname()[1]
    one = Calls(port=free)
    assert (await words(one.sample(POD, "http"))).startswith("it cannot be called: ClientConnectorError: ")
    for url in ("http://nowhere.invalid", "http://a..b", "http://:::", "http://[x"):
        assert (await words(one.query(url, "up"))).startswith("it cannot be called: ")


async def test_one_that_accepts_and_says_nothing_is_not_waited_for() -> None:
    with socket.create_server((POD, 0)) as listener:
        one = Calls(port=listener.getsockname()[1], metrics_timeout=0.2)
        began = time.monotonic()
        for scheme in ("http", "https"):
            assert await words(one.sample(POD, scheme)) == "it did not answer within 0.2 s"
        assert time.monotonic() - began < 3


async def test_an_address_where_nobody_is_is_not_waited_for_as_long_as_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_CONNECT_TIMEOUT", 0.2)
    with socket.create_server((POD, 0), backlog=0) as listener, ExitStack() as waiting:
        port = listener.getsockname()[1]
        # Nobody accepts: once the backlog is full the kernel drops what comes, as the network does at a lost address.
        for _ in range(4):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex((POD, port))
        call = Calls(port=port).verify(POD, "http", "token", [GOLDEN])
        assert await words(call) == "it cannot be called: nothing answers at its address"


async def test_each_golden_request_has_its_time(pods: Pods) -> None:
    async def takes_a_while(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.5)
        return await pods.right(request)

    pods.behaviours[POD] = takes_a_while
    one = Calls(port=pods.port, run_timeout=0.3)
    assert await words(one.verify(POD, "http", "token", [])) == "it did not answer within 0.3 s"
    await one.verify(POD, "http", "token", [GOLDEN] * 3)


def test_addresses_of_both_families_make_urls() -> None:
    one = Calls()
    assert one._url("10.0.0.7", "http", http.METRICS_PATH) == "http://10.0.0.7:8080/metrics"
    assert one._url("fd00::7", "https", verification.PATH) == "https://[fd00::7]:8080/onceserve/v1/verification"
