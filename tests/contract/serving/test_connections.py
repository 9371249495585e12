"""What one connection may do to the infer route, which leaves ASGI: pieces, pipelines, refusals, half-sent requests."""

import contextlib
import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import httpx
import numpy as np
import orjson
import pytest

from contract.serving.conftest import Serve
from contract.serving.process import Server, until
from contract.serving.test_departures import metric
from support.certificates import Authority
from unit.serving import models

PATH = "/v2/models/m/infer"
ROWS = 20_000
LIMIT = 2**20


@pytest.fixture(scope="module")
def server(module_serve: Serve) -> Server:
    return module_serve(models.identity(shape=["N"]), "--max-body-bytes", str(LIMIT)).ready()


def asked(number: float, *headers: str, method: str = "POST") -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "data": [number]}
    body = orjson.dumps({"inputs": [tensor]})
    return head(len(body), *headers, method=method) + body


def head(length: int, *headers: str, method: str = "POST") -> bytes:
    lines = [f"{method} {PATH} HTTP/1.1", "Host: x", f"Content-Length: {length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def binary(rows: np.ndarray, *headers: str) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": rows.shape, "parameters": {"binary_data_size": rows.nbytes}}
    document = orjson.dumps({"inputs": [tensor]})
    return head(len(document) + rows.nbytes, f"Inference-Header-Content-Length: {len(document)}", *headers) + (
        document + rows.tobytes()
    )


class Connection:
    """A connection on which one answer may follow another without a pause."""

    def __init__(self, plain: socket.socket) -> None:
        self.socket = plain
        self._answers = plain.makefile("rb")

    def sendall(self, data: bytes) -> None:
        self.socket.sendall(data)

    def makefile(self, _: str) -> BinaryIO:
        """Return what a response reads from; it closes it at its end, which is not the connection's."""
        return SimpleNamespace(  # type: ignore[return-value]
            read=self._answers.read, readinto=self._answers.readinto, readline=self._answers.readline,
            close=lambda: None, flush=lambda: None,
        )  # fmt: skip

    def ended(self) -> bool:
        return self._answers.read(1) == b""


@contextmanager
def connected(server: Server) -> Iterator[Connection]:
    url = httpx.URL(server.url())
    with socket.create_connection((url.host, url.port or 0), timeout=20) as plain:
        connection = Connection(plain)
        try:
            yield connection
        finally:
            connection._answers.close()


def answer(connection: Connection, method: str = "POST") -> http.client.HTTPResponse:
    response = http.client.HTTPResponse(connection, method=method)  # type: ignore[arg-type]
    response.begin()
    return response


def value(connection: Connection) -> float:
    response = answer(connection)
    body = response.read()
    assert response.status == 200, body
    first: float = orjson.loads(body)["outputs"][0]["data"][0]
    return first


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_a_request_may_come_in_whatever_pieces(server: Server, size: int) -> None:
    data = asked(3) if size < 100 else binary(np.full(ROWS, 3, np.float32))
    with connected(server) as connection:
        for start in range(0, len(data), size):
            connection.sendall(data[start : start + size])
        assert value(connection) == 3


def test_requests_in_a_row_are_answered_in_their_order(server: Server) -> None:
    number = 200
    requests = [asked(one) if one % 3 else binary(np.full(ROWS, one, np.float32)) for one in range(number)]
    probe = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    with connected(server) as connection:
        connection.sendall(requests[0] + probe + b"".join(requests[1:10]))
        assert value(connection) == 0
        probed = answer(connection)
        assert orjson.loads(probed.read()) == {"live": True}
        assert [value(connection) for _ in range(9)] == list(range(1, 10))
        for start in range(10, number, 10):
            connection.sendall(b"".join(requests[start : start + 10]))
            assert [value(connection) for _ in range(10)] == list(range(start, start + 10))


def test_what_follows_a_large_body_is_another_request(server: Server) -> None:
    large = binary(np.full(ROWS, 5, np.float32))
    with connected(server) as connection:
        connection.sendall(large[:1_000])
        connection.sendall(large[1_000:] + asked(6) + large)
        assert [value(connection) for _ in range(3)] == [5, 6, 5]


def test_chunks_are_put_together(server: Server) -> None:
    body = asked(4).partition(b"\r\n\r\n")[2]
    start = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with connected(server) as connection:
        connection.sendall(start + b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n" + asked(5))
        assert [value(connection), value(connection)] == [4, 5]


def test_chunks_beyond_the_limit_are_refused_and_the_rest_is_not_kept(server: Server) -> None:
    start = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    with connected(server) as connection:
        connection.sendall(start + chunk * (LIMIT // 0x10000 + 1))
        response = answer(connection)
        assert (response.status, "bytes" in orjson.loads(response.read())["error"]) == (413, True)
        connection.sendall(chunk * 3 + b"0\r\n\r\n" + asked(7))
        assert value(connection) == 7


def test_a_client_that_asks_first_is_told_to_go_on_or_is_refused(server: Server) -> None:
    with connected(server) as connection:
        data = asked(8, "Expect: 100-continue")
        start, _, body = data.partition(b"\r\n\r\n")
        connection.sendall(start + b"\r\n\r\n")
        assert connection.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert value(connection) == 8
    with connected(server) as connection:
        connection.sendall(head(LIMIT + 1, "Expect: 100-continue"))
        assert answer(connection).status == 413


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_other_methods_are_refused_and_the_connection_goes_on(server: Server, method: str) -> None:
    with connected(server) as connection:
        connection.sendall(asked(1, method=method) + asked(9))
        response = answer(connection, method)
        assert (response.status, response.getheader("allow")) == (405, "POST, OPTIONS")
        assert (response.read() == b"") is (method == "HEAD")
        assert value(connection) == 9


def test_options_is_answered_as_everywhere(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(f"OPTIONS {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode() + asked(2))
        response = answer(connection, "OPTIONS")
        response.read()
        assert (response.status, response.getheader("allow")) == (204, "POST, OPTIONS")
        assert value(connection) == 2


@pytest.mark.parametrize("line", ["Connection: close", ""])
def test_a_connection_ends_when_its_client_says_so(server: Server, line: str) -> None:
    data = asked(1, line) if line else asked(1).replace(b"HTTP/1.1", b"HTTP/1.0")
    with connected(server) as connection:
        connection.sendall(data)
        response = answer(connection)
        assert (response.status, response.getheader("connection")) == (200, "close")
        response.read()
        assert connection.ended()


@pytest.mark.parametrize(
    "wrong",
    [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: -1",
        "Content-Length: 0x5",
        "Transfer-Encoding: chunked, gzip",
    ],
)
def test_lengths_that_proxies_could_read_otherwise_are_refused(server: Server, wrong: str) -> None:
    with connected(server) as connection:
        connection.sendall(f"POST {PATH} HTTP/1.1\r\nHost: x\r\n{wrong}\r\n\r\n0\r\n\r\n".encode() + asked(1))
        response = answer(connection)
        assert response.status == 400
        response.read()
        assert connection.ended()


@pytest.mark.parametrize("come", [0, 10, 1_000, 70_000])
def test_who_leaves_in_the_middle_of_a_body_is_counted_and_leaves_nothing(serve: Serve, come: int) -> None:
    server = serve(models.identity(shape=["N"])).ready()
    data = binary(np.ones(ROWS, np.float32))
    start = data.index(b"\r\n\r\n") + 4
    with connected(server) as connection:
        connection.sendall(data[: start + come])
        until(lambda: metric(server, "onceserve_inflight_requests") == 1, "the request begins")
    until(lambda: metric(server, "onceserve_requests_total", code="499") == 1, "the departure is counted")
    assert metric(server, "onceserve_inflight_requests") == 0
    with connected(server) as connection:
        connection.sendall(asked(1))
        assert value(connection) == 1


def test_idle_connections_end_and_used_ones_stay(serve: Serve) -> None:
    server = serve(models.identity(shape=["N"]), "--keep-alive", "1").ready()
    with connected(server) as silent, connected(server) as used:
        for number in range(6):
            used.sendall(asked(number))
            assert value(used) == number
            time.sleep(0.4)
        assert silent.ended()
        assert used.ended()


def test_large_bodies_come_whole_over_tls(serve: Serve, tmp_path: Path) -> None:
    authority = Authority()
    cert, key = authority.issue().write(tmp_path)
    trusted = ssl.create_default_context(cadata=authority.cert.decode())
    server = serve(models.identity(shape=["N"]), "--tls-cert", str(cert), "--tls-key", str(key)).ready()
    with httpx.Client(verify=trusted, trust_env=False) as client:
        for number in range(20):
            data = binary(np.full(ROWS, number, np.float32))
            start, _, body = data.partition(b"\r\n\r\n")
            length = start.partition(b"Inference-Header-Content-Length: ")[2].split(b"\r\n")[0].decode()
            response = client.post(
                f"https://localhost:{server.port()}{PATH}",
                content=body,
                headers={"Inference-Header-Content-Length": length},
            )
            assert response.json()["outputs"][0]["data"][-1] == number


@pytest.mark.parametrize("more", [0, 60_000])
def test_a_length_with_leading_zeros_is_the_length(server: Server, more: int) -> None:
    data = binary(np.full(ROWS, 3, np.float32)) if more else asked(3)
    start, _, body = data.partition(b"\r\n\r\n")
    padded = start.replace(b"Content-Length: %d" % len(body), b"Content-Length: %025d" % len(body))
    with connected(server) as connection:
        connection.sendall(padded + b"\r\n\r\n")
        connection.sendall(body + asked(4))
        assert [value(connection), value(connection)] == [3, 4]


def test_a_length_beyond_all_counting_is_refused(server: Server) -> None:
    with connected(server) as connection:
        connection.sendall(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 9{'0' * 18}\r\n\r\n".encode())
        assert answer(connection).status == 413


@pytest.mark.parametrize("path", [PATH, "/v2"])
def test_what_follows_an_upgrade_is_no_request(server: Server, path: str) -> None:
    inner = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    upgrade = "Connection: Upgrade\r\nUpgrade: h2c\r\n"
    start = f"POST {path} HTTP/1.1\r\nHost: x\r\n{upgrade}Content-Length: {len(inner)}\r\n\r\n"
    with connected(server) as connection:
        connection.sendall(start.encode())
        time.sleep(0.1)
        connection.sendall(inner)
        response = answer(connection)
        assert response.status in (400, 405)
        response.read()
        assert connection.ended()


def test_a_long_row_of_refusals_is_answered_to_its_end(server: Server) -> None:
    refused = f"GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with connected(server) as connection:
        connection.sendall(asked(1) + refused * 600 + asked(2))
        assert value(connection) == 1
        for _ in range(600):
            response = answer(connection)
            assert response.status == 405
            response.read()
        assert value(connection) == 2


def test_who_reads_no_answers_gets_no_more_of_them(serve: Serve) -> None:
    server = serve(models.identity(shape=["N"])).ready()
    before = resident(server)
    refused = f"GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 1_000
    with connected(server) as connection:
        connection.socket.settimeout(1)
        with contextlib.suppress(TimeoutError):
            for _ in range(1_000):
                connection.socket.sendall(refused)
        assert resident(server) - before < 64 * 2**20
    assert httpx.get(f"{server.url()}/v2/health/live", trust_env=False).status_code == 200


def test_each_request_of_a_row_keeps_its_id(serve: Serve) -> None:
    server = serve(models.identity(shape=["N"]), "--access-log").ready()
    with connected(server) as connection:
        connection.sendall(b"".join(asked(one, f"X-Request-Id: r{one}") for one in range(3)))
        for _ in range(3):
            value(connection)

    def told() -> list[str]:
        return [line["request_id"] for line in server.records() if line["logger"].endswith("access")]

    until(lambda: len(told()) == 3, "three lines")
    assert told() == ["r0", "r1", "r2"]


def test_a_request_in_progress_is_no_idleness(serve: Serve) -> None:
    server = serve(models.slow(250_000), "--keep-alive", "1", "--threads", "1").ready()
    tensor = {"name": "n", "datatype": "INT64", "shape": [1], "data": [0]}
    body = orjson.dumps({"inputs": [tensor]})
    refused = f"GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    with connected(server) as connection:
        connection.sendall(refused + head(len(body)) + body)
        first = answer(connection)
        first.read()
        assert first.status == 405
        assert answer(connection).status == 200


def test_what_is_no_tls_leaves_no_trace(serve: Serve, tmp_path: Path) -> None:
    cert, key = Authority().issue().write(tmp_path)
    server = serve(models.identity(), "--tls-cert", str(cert), "--tls-key", str(key), "--keep-alive", "1").ready()
    with socket.create_connection(("127.0.0.1", server.port()), timeout=10) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(OSError):
            plain.recv(100)
    time.sleep(1.5)
    assert "Traceback" not in server.log()


def resident(server: Server) -> int:
    with open(f"/proc/{server.process.pid}/status", encoding="ascii") as status:  # noqa: PTH123
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))
