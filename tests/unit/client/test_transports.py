"""The transports against a real server that misbehaves; each test is made for threads and for asyncio."""

import asyncio
import io
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest

import onceserve_client
from onceserve_client import AsyncTransport, Policy, StreamedBodyError, Transport, attempt, replayed
from onceserve_client.policy import REFILL
from unit.client.misbehaving import SLOW, STATUSES, MisbehavingServer

Send = Callable[..., httpx.Response]
TIMEOUT = httpx.Timeout(5)
USUAL = Policy()


def send(method: str, url: str, *, policy: Policy = USUAL, timeout: Any = TIMEOUT, **request: Any) -> httpx.Response:
    with httpx.Client(transport=Transport(policy=policy), timeout=timeout) as client:
        return client.request(method, url, **request)


def send_async(
    method: str, url: str, *, policy: Policy = USUAL, timeout: Any = TIMEOUT, **request: Any
) -> httpx.Response:
    async def sent() -> httpx.Response:
        async with httpx.AsyncClient(transport=AsyncTransport(policy=policy), timeout=timeout) as client:
            return await client.request(method, url, **request)

    return asyncio.run(sent())


@pytest.fixture(params=[send, send_async], ids=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Send:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def running() -> Iterator[MisbehavingServer]:
    with MisbehavingServer() as server:
        yield server


@pytest.fixture
def server(running: MisbehavingServer) -> MisbehavingServer:
    running.forget()
    return running


def test_a_call_has_one_key_which_is_a_uuid_in_quotes(call: Send, server: MisbehavingServer) -> None:
    first, second = call("POST", server.url, content=b"a"), call("PATCH", server.url, content=b"a")
    for response, key in zip((first, second), server.keys, strict=True):
        assert response.request.headers["Idempotency-Key"] == key
        assert key == f'"{uuid.UUID(key.strip(chr(34)))}"'
    assert len(set(server.keys)) == 2
    assert (replayed(first), attempt(first), first.text) == (False, 1, "answer 0")


@pytest.mark.parametrize("step", ["drop", "bad gateway", "unavailable", "too late", "busy"])
def test_what_was_not_done_is_done_by_another_try(
    call: Send, server: MisbehavingServer, step: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "onceserve_client")
    server.forget(step, step)
    response = call("POST", server.url, json={"x": 1})
    assert (response.status_code, response.text, replayed(response)) == (200, "answer 0", False)
    assert len(set(server.seen)) == 1
    assert len(server.answers) == 1
    told = [record.getMessage() for record in caplog.records if record.name == "onceserve_client"]
    assert [line.startswith("POST 127.0.0.1: once more in 0.") for line in told] == [True, True]


@pytest.mark.parametrize("step", ["lose", "cut"])
def test_an_answer_that_was_lost_is_had_again(call: Send, server: MisbehavingServer, step: str) -> None:
    server.forget(step, "drop", step)
    response = call("POST", server.url, content=b"body")
    assert (response.text, replayed(response), attempt(response)) == ("answer 0", True, None)
    assert server.seen == [("POST", server.keys[0], b"body")] * 4
    assert len(server.answers) == 1


def test_a_slow_answer_is_had_by_another_try(call: Send, server: MisbehavingServer) -> None:
    server.forget("slow")
    response = call("POST", server.url, content=b"", timeout=httpx.Timeout(SLOW / 4))
    assert (response.text, replayed(response)) == ("answer 0", True)


def test_retry_after_is_waited_for(call: Send, server: MisbehavingServer) -> None:
    server.forget("limited")
    began = time.monotonic()
    assert call("POST", server.url).status_code == 200
    assert time.monotonic() - began >= 1


def test_what_asks_for_more_than_the_budget_is_the_answer(call: Send, server: MisbehavingServer) -> None:
    server.forget("limited for an hour")
    assert call("POST", server.url).status_code == 429
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 410, 422, 500, 501])
def test_other_statuses_are_final(call: Send, server: MisbehavingServer, status: int) -> None:
    server.forget(str(status))
    assert call("POST", server.url).status_code == status
    assert len(server.seen) == 1


def test_after_the_last_try_its_answer_is_returned(call: Send, server: MisbehavingServer) -> None:
    server.forget("drop", "unavailable", "bad gateway")
    response = call("POST", server.url, policy=Policy(tries=3))
    assert (response.status_code, response.text) == (502, "bad gateway")
    assert response.elapsed.total_seconds() > 0


def test_after_the_last_try_its_error_is_raised(call: Send, server: MisbehavingServer) -> None:
    server.forget("unavailable", "drop", "drop")
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)) as raised:
        call("POST", server.url, policy=Policy(tries=3))
    assert raised.value.request.headers["Idempotency-Key"] == server.keys[0], "with it the call can go on later"


def test_time_ends_a_try_as_well(call: Send, server: MisbehavingServer) -> None:
    server.forget("slow", "slow")
    with pytest.raises(httpx.ReadTimeout):
        call("POST", server.url, policy=Policy(seconds=SLOW / 4), timeout=None)
    assert len(server.seen) == 1


def test_a_dead_service_gets_no_storm(server: MisbehavingServer) -> None:
    server.forget(*["unavailable"] * 100)
    began = time.monotonic()
    with httpx.Client(transport=Transport(policy=Policy(burst=3, ratio=0.0))) as client:
        statuses = {client.post(server.url).status_code for _ in range(20)}
    assert statuses == {503}
    assert 20 + 3 <= len(server.seen) <= 20 + 3 + REFILL * (time.monotonic() - began)


def test_nobody_there_is_told_as_it_is(call: Send, server: MisbehavingServer) -> None:
    with pytest.raises(httpx.ConnectError):
        call("POST", "http://127.0.0.1:1", policy=Policy(tries=2))


def test_what_can_never_be_sent_is_tried_once(call: Send) -> None:
    with pytest.raises(httpx.UnsupportedProtocol):
        call("POST", "ftp://127.0.0.1:1")


def test_the_callers_key_is_the_key(call: Send, server: MisbehavingServer) -> None:
    server.forget("lose")
    call("POST", server.url, headers={"idempotency-key": '"order-7"'})
    assert server.keys == ['"order-7"'] * 2


def test_a_call_that_is_led_elsewhere_keeps_its_key(call: Send, server: MisbehavingServer) -> None:
    server.forget("moved", "lose")
    response = call("POST", server.url, content=b"a", follow_redirects=True)
    assert (response.url.path, replayed(response)) == ("/elsewhere", True)
    assert len(set(server.seen)) == 1


@pytest.mark.parametrize(("timeout", "wait"), [(5.0, "wait=4"), (2.5, "wait=1"), (1.9, ""), (None, "wait=58")])
def test_a_server_that_is_busy_may_wait_as_long_as_the_client_does(
    call: Send, server: MisbehavingServer, timeout: float | None, wait: str
) -> None:
    call("POST", server.url, timeout=timeout)
    call("GET", server.url, timeout=timeout)
    call("POST", server.url, timeout=timeout, headers={"Prefer": "wait=0"})
    assert server.waits == [wait, "", "wait=0"]


def test_a_request_that_is_sent_again_is_the_same_call(server: MisbehavingServer) -> None:
    with httpx.Client(transport=Transport()) as client:
        request = client.build_request("POST", server.url, json={})
        first, second = client.send(request), client.send(request)
    assert (first.content, replayed(second)) == (second.content, True)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_methods_that_are_idempotent_need_no_key(call: Send, server: MisbehavingServer, method: str) -> None:
    server.forget("drop", "unavailable")
    assert call(method, server.url).status_code == 200
    assert server.keys == [""] * 3
    server.forget("busy")
    assert call(method, server.url).status_code == 409, "a conflict that is not about a key is final"


def test_a_body_that_can_be_sent_only_once_is_refused(server: MisbehavingServer) -> None:
    for body in (iter([b"a"]), io.BytesIO(b"a")):
        with pytest.raises(StreamedBodyError, match=r"^the request's body is a stream, .* expected bytes"):
            send("POST", server.url, content=body)
    with pytest.raises(StreamedBodyError):
        send("POST", server.url, files={"f": io.BytesIO(b"a")})
    assert server.seen == []


async def test_a_body_that_comes_by_and_by_is_refused_as_well(server: MisbehavingServer) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"a"

    async with httpx.AsyncClient(transport=AsyncTransport()) as client:
        with pytest.raises(StreamedBodyError):
            await client.post(server.url, content=body())
        request = client.build_request("POST", server.url, content=body())
        await request.aread()
        assert (await client.send(request)).text == "answer 0"
    assert [body for _, _, body in server.seen] == [b"a"]


def test_a_body_that_was_read_first_is_sent(server: MisbehavingServer) -> None:
    server.forget("lose")
    with httpx.Client(transport=Transport()) as client:
        request = client.build_request("POST", server.url, files={"f": io.BytesIO(b"content of a file")})
        request.read()
        assert replayed(client.send(request))
    assert b"content of a file" in server.seen[1][2]
    assert server.seen[0] == server.seen[1]


def test_an_answer_can_be_read_in_pieces(server: MisbehavingServer) -> None:
    with httpx.Client(transport=Transport()) as client, client.stream("POST", server.url) as response:
        assert b"".join(response.iter_raw()) == b"answer 0"


async def test_who_is_cancelled_does_not_try_again(server: MisbehavingServer) -> None:
    server.forget(*["limited"] * 5)
    async with httpx.AsyncClient(transport=AsyncTransport()) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await client.post(server.url)
        await asyncio.sleep(1)
    assert len(server.seen) == 1


async def test_many_calls_at_once_have_an_answer_each(server: MisbehavingServer) -> None:
    server.forget(*["drop", "lose", "unavailable", "answer", "cut"] * 4)
    async with httpx.AsyncClient(transport=AsyncTransport()) as client:
        responses = await asyncio.gather(*(client.post(server.url) for _ in range(20)))
    assert len({response.content for response in responses}) == len(server.answers) == 20


def test_statuses_are_those_of_the_server() -> None:
    assert {status for status, _ in STATUSES.values()} == {307, *onceserve_client.call.RETRIED}
