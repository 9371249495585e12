"""`onceserve ledger` lists what a real server has answered, from a real PostgreSQL."""

import asyncio
import csv
import io
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from contract.serving.conftest import EXAMPLE, Serve
from contract.serving.process import COMMAND, Server, row
from onceserve_contract.environment import IDEMPOTENCY_STORE, PREFIX
from onceserve_serving.auth import keys
from onceserve_serving.idempotency.stores import open_store
from onceserve_serving.proto import open_inference_pb2 as messages
from support.databases import Postgresql

ANN, BEN = keys.new_key(), keys.new_key()
PATHS = {"risk": "/v2/models/risk/infer", "other": "/v2/models/other/infer"}
BODY = row("X", "FP32", [1.0] * 30, [1, 30])
FEW, MANY = 3_000, 50_000


@pytest.fixture(scope="module")
def database() -> Iterator[Postgresql]:
    with Postgresql() as server:
        yield server


@pytest.fixture(scope="module")
def server(module_serve: Serve, database: Postgresql, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """Has answered four calls of ann and one of ben."""
    file = tmp_path_factory.mktemp("keys") / "keys.txt"
    file.write_text(f"{keys.line_of(ANN, 'ann')}\n{keys.line_of(BEN, 'ben')}\n")
    model = EXAMPLE / "model.onnx"
    options = ["--name", "risk", "--model", f"other={model}", "--api-keys", str(file), "--grpc-port", "0"]
    store = ["--idempotency-store", f"{database.url}?timeout=20", "--idempotency-scope", "default/risk"]
    server = module_serve(model, *options, *store).ready()
    for _ in range(3):
        assert _post(server, ANN, "a").is_success
    for owner, key, model_name in ((ANN, "b", "risk"), (ANN, "c", "other"), (BEN, "a", "risk")):
        assert _post(server, owner, key, model_name).is_success
    _call(server, ANN, "a")
    return server


def _post(server: Server, owner: str, key: str, model: str = "risk") -> httpx.Response:
    headers = {"X-API-Key": owner, "Idempotency-Key": f'"{key}"'}
    return httpx.post(server.url() + PATHS[model], json=BODY, headers=headers, timeout=20)


def _call(server: Server, owner: str, key: str) -> None:
    """Ask over gRPC, where the same key is another request's."""
    tensor = messages.ModelInferRequest.InferInputTensor(name="X", datatype="FP32", shape=[1, 30])
    raw = np.ones(30, np.float32).tobytes()
    request = messages.ModelInferRequest(model_name="risk", inputs=[tensor], raw_input_contents=[raw])
    with grpc.insecure_channel(server.grpc_target()) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=messages.ModelInferRequest.SerializeToString,
        )
        infer(request, timeout=20, metadata=[("x-api-key", owner), ("idempotency-key", key)])


def ledger(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment = inherited | {IDEMPOTENCY_STORE: url}
    return subprocess.run(
        [COMMAND, "ledger", *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def listed(database: Postgresql, *arguments: str) -> list[dict[str, Any]]:
    result = ledger(database.url, *arguments, "--format", "jsonl")
    assert (result.returncode, result.stderr) == (0, "")
    return [json.loads(line) for line in result.stdout.splitlines()]


def told(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(each["tenant"], each["model"]) for each in rows]


def test_there_is_one_row_for_each_answer_however_often_it_was_asked_for(server: Server, database: Postgresql) -> None:
    rows = listed(database)
    assert told(rows) == [("ann", "risk"), ("ann", "risk"), ("ann", "other"), ("ben", "risk"), ("ann", "risk")]
    assert [each["id"] for each in rows] == sorted({each["id"] for each in rows})
    assert len({each["record"] for each in rows}) == 5
    assert {(each["attempt"], each["status"], each["revision"]) for each in rows} == {(1, 200, "1")}
    for each in rows:
        started, completed = (datetime.fromisoformat(each[name]) for name in ("started_at", "completed_at"))
        assert started <= completed <= datetime.now(UTC) + timedelta(minutes=1)


def test_rows_are_found_by_what_is_known_of_them(server: Server, database: Postgresql) -> None:
    assert told(listed(database, "--tenant", "ben")) == [("ben", "risk")]
    assert told(listed(database, "--model", "other")) == [("ann", "other")]
    assert told(listed(database, "--tenant", "ben", "--model", "other")) == []
    whole = listed(database)
    assert listed(database, "--record", whole[2]["record"]) == whole[2:3]
    assert listed(database, "--since", whole[0]["completed_at"]) == whole
    assert listed(database, "--until", whole[0]["completed_at"]) == []
    assert listed(database, "--since", whole[3]["completed_at"], "--until", "2999-01-01") == whole[3:]


def test_a_row_is_found_by_its_key_whichever_way_it_came(server: Server, database: Postgresql) -> None:
    scope = ("--scope", "default/risk")
    whole = listed(database)
    assert listed(database, "--key", "a", "--tenant", "ann", *scope) == [whole[0], whole[4]]
    assert listed(database, "--key", '"c"', "--tenant", "ann", *scope) == whole[2:3]
    assert listed(database, "--key", "a", *scope) == []
    assert listed(database, "--key", "a", "--tenant", "ann") == []


def test_other_forms_say_the_same(server: Server, database: Postgresql) -> None:
    whole = listed(database)
    exported = list(csv.DictReader(io.StringIO(ledger(database.url, "--format", "csv").stdout)))
    assert exported == [{name: str(value) for name, value in each.items()} for each in whole]
    header, *lines = ledger(database.url).stdout.splitlines()
    assert header.split()[:3] == ["COMPLETED_AT", "TENANT", "MODEL"]
    assert [line.split()[:3] for line in lines] == [[each["completed_at"], *told([each])[0]] for each in whole]


def test_who_may_only_read_can(server: Server, database: Postgresql) -> None:
    database.execute("CREATE ROLE auditor LOGIN; ALTER ROLE auditor SET default_transaction_read_only = on")
    url = database.url.replace("onceserve@", "auditor@")
    refused = ledger(url)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert "permission denied for table onceserve_migration; the database of a server's store" in refused.stderr
    database.execute("GRANT SELECT ON onceserve_ledger, onceserve_migration TO auditor")
    result = ledger(url, "--tenant", "ben", "--format", "jsonl")
    assert (result.returncode, result.stderr) == (0, "")
    assert told([json.loads(result.stdout)]) == [("ben", "risk")]


@pytest.fixture
def long(database: Postgresql) -> Iterator[str]:
    """A ledger of many rows."""
    url = database.database("long")
    asyncio.run(_make(url))
    assert ledger(url).returncode == 0, "an empty ledger is one"
    database.execute(
        "INSERT INTO onceserve_ledger (record, request, tenant, model, model_digest, revision, attempt, fence, status,"
        " started_at, completed_at) SELECT '\\x00', '\\x00', '=1+1',"
        f" CASE WHEN n > {FEW} THEN 'many' ELSE 'few' END, 'd', 'r', 1, 1, 200, now(), now()"
        f" FROM generate_series(1, {MANY}) AS n",
        "long",
    )
    yield url
    database.execute("DROP DATABASE long WITH (FORCE)", "postgres")


async def _make(url: str) -> None:
    store = open_store(url)
    await store.open()
    await store.close()


def test_a_long_list_takes_no_more_memory_than_a_short_one(long: str) -> None:
    short, _ = _memory_after(FEW - 1000, long, "--model", "few")
    whole, rest = _memory_after(MANY - 1000, long)
    assert whole - short < 4 * 2**20
    assert rest == 1000


def _memory_after(lines: int, *arguments: str) -> tuple[int, int]:
    """Return the bytes that the command has had at most when it has written so many lines, and what is left."""
    with subprocess.Popen([COMMAND, "ledger", "--store", *arguments], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(1 + lines):
            process.stdout.readline()
        memory = _most_memory(process.pid)
        rest = len(process.stdout.readlines())
        assert process.wait(20) == 0
    return memory, rest


def _most_memory(pid: int) -> int:
    """Return the bytes that a process has had at most."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def test_a_formula_is_none_in_a_spreadsheet(long: str) -> None:
    rows = csv.DictReader(io.StringIO(ledger(f"{long}?timeout=20", "--format", "csv").stdout))
    assert {each["tenant"] for each in rows} == {"'=1+1"}


def test_who_reads_may_leave(long: str) -> None:
    with subprocess.Popen(
        [COMMAND, "ledger", "--store", long, "--format", "jsonl"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b'{"id": 1,')
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(20) == 0


def test_a_store_that_goes_away_is_told_of(long: str, database: Postgresql) -> None:
    with subprocess.Popen(
        [COMMAND, "ledger", "--store", long, "--format", "jsonl"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        database.pause()
        try:
            rest = process.stdout.read()
            words = process.stderr.read()
            assert process.wait(20) == 1
        finally:
            database.resume()
    assert rest.count("\n") < MANY - 1
    assert words.startswith("onceserve ledger: the store postgresql 127.0.0.1:")
    assert "no answer within 2 s" in words


def test_who_waits_may_interrupt(long: str, database: Postgresql) -> None:
    database.pause()
    try:
        command = [COMMAND, "ledger", "--store", f"{long}?timeout=60"]
        # Where the tests run in the background, interrupts are ignored, and that is inherited.
        heeds = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        with subprocess.Popen(command, stderr=subprocess.PIPE, preexec_fn=heeds) as process:  # noqa: PLW1509
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(3)
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            assert process.stderr.read() == b""
            assert process.wait(20) == 130
    finally:
        database.resume()


def test_no_password_is_shown(database: Postgresql) -> None:
    for url in (
        "postgresql://ann:secret@127.0.0.1:1/x",
        "postgresql://ann:secret@127.0.0.1:x/x",
        "postgresql://ann:secret@127.0.0.1:1/x?sslmode=secret",
        "redis://:secret@127.0.0.1:1",
    ):
        result = ledger(url)
        assert result.returncode in (1, 2)
        assert result.stderr.startswith("onceserve ledger: ")
        assert result.stderr.count("\n") == 1
        assert "secret" not in result.stdout + result.stderr.replace("sslmode=secret", "")
