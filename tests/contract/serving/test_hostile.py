"""Bodies that mean harm: refused in words, in bounded time and memory, and the next request is answered."""

import gzip
import os
import socket
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
import zstandard

from contract.serving.conftest import Serve
from contract.serving.process import Server, client, row
from onceserve_serving.auth import keys
from unit.serving import models

PATH = "/v2/models/m/infer"
LIMIT = 2**20
GROWTH = 24 * 2**20
BOMB = bytes(64 * LIMIT)


@pytest.fixture(scope="module")
def server(module_serve: Serve) -> Server:
    return module_serve(models.of_any_shape(), "--max-body-bytes", str(LIMIT)).ready()


@pytest.fixture(scope="module")
def asked(server: Server) -> Iterator[httpx.Client]:
    yield from client(server)


def tensor(**changes: Any) -> bytes:
    whole = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3], **changes}
    return orjson.dumps({"inputs": [whole]})


def binary(header: bytes, tail: bytes = b"", length: str | None = None) -> tuple[bytes, dict[str, str]]:
    return header + tail, {"Inference-Header-Content-Length": length or str(len(header))}


def sized(size: int, **changes: Any) -> bytes:
    whole = {"name": "x", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": size}, **changes}
    return orjson.dumps({"inputs": [whole]})


HOSTILE: dict[str, tuple[int, tuple[bytes, dict[str, str]]]] = {
    "nesting": (400, (b'{"inputs":' * 100_000, {})),
    "nested data": (400, (tensor().replace(b"[1,2,3]", b"[" * 100_000 + b"]" * 100_000), {})),
    "nested less deeply": (400, (tensor().replace(b"[1,2,3]", b"[" * 900 + b"]" * 900), {})),
    "giant integer": (400, (tensor().replace(b"[1,2,3]", b"[1,2," + b"9" * 500_000 + b"]"), {})),
    "giant exponent": (400, (tensor().replace(b"[1,2,3]", b"[1,2,1e999999999]"), {})),
    "NaN": (400, (tensor().replace(b"[1,2,3]", b"[1,2,NaN]"), {})),
    "no UTF-8": (400, (b'{"inputs": "\xff\xfe"}', {})),
    "half a surrogate": (400, (b'{"id": "\\ud800"}', {})),
    "null bytes": (400, (bytes(LIMIT), {})),
    "many inputs": (400, (orjson.dumps({"inputs": [{}] * 300_000}), {})),
    "long name": (400, (tensor(name="x" * 900_000), {})),
    "shape that overflows": (400, (tensor(shape=[2**31 - 1] * 8), {})),
    "empty shape that overflows": (400, (tensor(shape=[0, *[2**31 - 1] * 8], data=[]), {})),
    "shape without end": (400, (tensor(shape=[2**31 - 1] * 80_000), {})),
    "bytes for a shape that overflows": (400, binary(sized(0, shape=[2**31 - 1] * 8))),
    "size that overflows": (400, binary(sized(2**63 - 1))),
    "header beyond the body": (400, binary(sized(12), b"", "99999999999999999")),
    "header that is no number": (400, binary(sized(12), b"", "1e3")),
    "bytes left over": (400, binary(sized(12), bytes(500_000))),
    "too large": (413, (b" " * (LIMIT + 1), {})),
    "gzip bomb": (413, (gzip.compress(BOMB), {"Content-Encoding": "gzip"})),
    "deflate bomb": (413, (zlib.compress(BOMB), {"Content-Encoding": "deflate"})),
    "zstd bomb": (413, (zstandard.compress(BOMB), {"Content-Encoding": "zstd"})),
    "cut gzip": (400, (gzip.compress(tensor())[:-9], {"Content-Encoding": "gzip"})),
    "codings upon codings": (415, (tensor(), {"Content-Encoding": "gzip, gzip"})),
}


def memory(server: Server) -> int:
    """Resident bytes of the server."""
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused_in_words_and_the_next_is_answered(asked: httpx.Client, name: str) -> None:
    status, (body, headers) = HOSTILE[name]
    refused = asked.post(PATH, content=body, headers=headers)
    assert (refused.status_code, refused.headers["content-type"]) == (status, "application/problem+json")
    assert 0 < len(refused.json()["error"]) < 2_000
    assert asked.post(PATH, json=row("x", "FP32", [1.5])).json()["outputs"][0]["data"] == [1.5]


def test_over_and_over_it_takes_no_more_memory(server: Server, asked: httpx.Client) -> None:
    def all_of_them() -> None:
        for _, (body, headers) in HOSTILE.values():
            asked.post(PATH, content=body, headers=headers)

    all_of_them()
    before = memory(server)
    for _ in range(10):
        all_of_them()
    assert memory(server) - before < GROWTH


def test_who_promises_much_and_sends_nothing_takes_nothing(server: Server) -> None:
    before = memory(server)
    url = httpx.URL(server.url())
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {LIMIT}\r\n\r\n{{"
    idle = [socket.create_connection((url.host, url.port or 0)) for _ in range(100)]
    for one in idle:
        one.sendall(head.encode())
    assert httpx.get(server.url() + "/v2/health/live", trust_env=False).status_code == 200
    assert memory(server) - before < GROWTH
    for one in idle:
        one.close()


@pytest.mark.parametrize("shape", [[], [0], [0, 3], [1, 1, 1, 1]])
def test_odd_shapes_that_fit_are_answered(asked: httpx.Client, shape: list[int]) -> None:
    data = np.ones(shape, dtype=np.float32)
    for content, headers in (
        (tensor(shape=shape, data=data.ravel().tolist()), {}),
        binary(sized(data.nbytes, shape=shape), data.tobytes()),
    ):
        answer = asked.post(PATH, content=content, headers=headers).json()
        assert answer["outputs"][0] == {"name": "y", "datatype": "FP32", "shape": shape, "data": [1.0] * data.size}


def test_the_document_holds_for_whatever_schemathesis_thinks_of(module_serve: Serve, tmp_path: Path) -> None:
    key = keys.new_key()
    (tmp_path / "keys").write_text(keys.line_of(key, "ann"))
    locked = ("--allow-model-control", "--api-keys", str(tmp_path / "keys"))
    server = module_serve(models.every_datatype(), *locked).ready()
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{server.url()}/openapi.json"]
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    options = (
        f"--header X-API-Key:{key} --checks {checks},unsupported_method,ignored_auth "
        "--phases examples,coverage,fuzzing --max-examples 8 --seed 1 --no-color "
        "--exclude-path-regex /unload$ --suppress-health-check all"
    )
    plain = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    done = subprocess.run(
        [*command, *options.split()],
        check=False,
        env=plain | {"NO_PROXY": "*"},
        cwd=server.home,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout
    assert httpx.get(server.url() + "/v2/health/ready", trust_env=False).status_code == 200
