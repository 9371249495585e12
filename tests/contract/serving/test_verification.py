"""The operator's look at a real server's model: with its token alone, and unseen by what is kept of callers."""

import asyncio
import hashlib
import signal
import socket
import sqlite3
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from onnx import helper

from contract.serving.conftest import EXAMPLE, Serve
from contract.serving.process import Server, client, row, until
from contract.serving.test_metrics import samples
from onceserve_contract.environment import MODEL_VERSION, VERIFICATION_KEY
from onceserve_contract.verification import HEADER, PATH, key, token
from onceserve_serving.auth import keys
from support.certificates import Authority
from unit.serving import models

TOKEN = token(b"secret", "default", "r7")
AS_OPERATOR = {HEADER: TOKEN}
SETTINGS = {VERIFICATION_KEY: key(TOKEN), MODEL_VERSION: "r7"}
RISK = row("X", "FP32", [0.5] * 30, [1, 30])
INFER = "/v2/models/risk/infer"
ANN = keys.new_key()


@pytest.fixture(scope="module")
def risk(module_serve: Serve) -> Iterator[httpx.Client]:
    """A client of a server of the example."""
    yield from client(module_serve(EXAMPLE / "model.onnx", "--name", "risk", **SETTINGS).ready())


calling = contextmanager(client)


def ask(caller: httpx.Client, *requests: Any, headers: dict[str, str] = AS_OPERATOR) -> httpx.Response:
    return caller.post(PATH, json={"requests": requests}, headers=headers)


def report(caller: httpx.Client, *requests: Any) -> Any:
    answer = ask(caller, *requests)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def of(serve: Serve, model: bytes, *requests: Any) -> Any:
    """Return what a server of this model tells."""
    with calling(serve(model, **SETTINGS).ready()) as caller:
        return report(caller, *requests)


def tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def asked(name: str, datatype: str, shape: list[int], data: list[Any], **answered: list[int]) -> dict[str, Any]:
    """Return a request of one input that asks for the data of outputs in these shapes."""
    return {"inputs": [tensor(name, datatype, shape, data)], "data": answered}


def test_the_loaded_model_is_named_and_answers_as_it_answers_callers(risk: httpx.Client) -> None:
    given = risk.post(INFER, json=RISK).json()["outputs"]
    told = report(risk, {**RISK, "data": {one["name"]: one["shape"] for one in given}}, RISK)
    content = (EXAMPLE / "model.onnx").read_bytes()
    assert (told["name"], told["version"]) == ("risk", "r7")
    assert told["sha256"] == hashlib.sha256(content).hexdigest()
    bare = {"outputs": [{part: one[part] for part in ("name", "datatype", "shape")} for one in given], "finite": True}
    assert told["answers"] == [{"outputs": given, "finite": True}, bare]
    assert told["smoke"] == bare


def test_outputs_are_verified_however_large_they_are(serve: Serve) -> None:
    shape = [1, 3, 1024, 1024]
    requests = asked("x", "FP32", [1], [0.1]), asked("x", "FP32", [1], [0.1], y=[1])
    told = of(serve, models.enlarging(shape), *requests)
    whole = {"outputs": [{"name": "y", "datatype": "FP32", "shape": shape}], "finite": True}
    assert [told["smoke"], *told["answers"]] == [whole] * 3


def test_no_requests_are_enough(risk: httpx.Client) -> None:
    told = report(risk)
    assert told["answers"] == []
    assert "error" not in told["smoke"]


@pytest.mark.parametrize(
    "headers", [{}, {HEADER: ""}, {HEADER: token(b"secret", "default", "r8")}, {HEADER: key(TOKEN)}, {HEADER: "\xff"}]
)
def test_another_token_opens_nothing(risk: httpx.Client, headers: dict[str, Any]) -> None:
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = risk.post(PATH, content=b"not even JSON", headers=encoded)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert "onceserve-verification" in answer.json()["error"]


def test_without_a_key_there_is_no_such_path(example: httpx.Client, serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(keys.line_of(ANN, "ann"))
    options = ("--api-keys", str(tmp_path / "keys"))
    with calling(serve(EXAMPLE / "model.onnx", *options, **{VERIFICATION_KEY: ""}).ready()) as locked:
        answers = [ask(caller, headers=headers) for caller in (example, locked) for headers in (AS_OPERATOR, {})]
    assert {answer.status_code for answer in answers} == {404}
    assert all("no verification key" in answer.json()["error"] for answer in answers)


def test_a_key_of_another_form_ends_the_start(serve: Serve) -> None:
    server = serve(EXAMPLE / "model.onnx", **{VERIFICATION_KEY: "secret"})
    assert server.wait() == 2
    assert "--verification-key (or ONCESERVE_VERIFICATION_KEY)" in server.termination()["message"]
    assert "secret" not in server.log()


@pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS"])
def test_it_is_asked_by_post_and_is_in_no_document(risk: httpx.Client, method: str) -> None:
    assert risk.request(method, PATH, headers=AS_OPERATOR).status_code == 405
    assert "verification" not in risk.get("/openapi.json").text


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b'{"requests": [', "not JSON"),
        (b"[]", "'requests'"),
        (b"{}", "'requests'"),
        (b'{"requests": [{"input": []}]}', "'requests[0].inputs'"),
        (b'{"requests": [{"inputs": []}, {"inputs": [1]}]}', "'requests[1].inputs'"),
        (b'{"requests": [{"inputs": [], "data": true}]}', "'requests[0].data'"),
    ],
)
def test_a_body_of_another_form_is_refused(risk: httpx.Client, body: bytes, words: str) -> None:
    answer = risk.post(PATH, content=body, headers=AS_OPERATOR)
    assert answer.status_code == 400
    assert words in answer.json()["error"]


def test_a_body_beyond_the_limit_is_refused(serve: Serve) -> None:
    with calling(serve(models.identity(), "--max-body-bytes", "1000", **SETTINGS).ready()) as caller:
        assert ask(caller, asked("x", "FP32", [1, 300], [1.5] * 300)).status_code == 413
        assert ask(caller).status_code == 200


def test_requests_that_do_not_fit_are_answered_in_words_and_fail_no_other(risk: httpx.Client) -> None:
    wrong = {
        "unknown input 'x'": asked("x", "FP32", [1, 30], [0] * 30),
        "shape [1, 29] given": asked("X", "FP32", [1, 29], [0] * 29),
        "takes 60 elements, 30 are given": asked("X", "FP32", [2, 30], [0] * 30),
        "datatype 'INT64' given": asked("X", "INT64", [1, 30], [0] * 30),
        "'data' must hold numbers": asked("X", "FP32", [1, 30], ["a"] * 30),
        "missing input 'X'": {"inputs": []},
        "given twice": {"inputs": RISK["inputs"] * 2},
    }
    *answers, last = report(risk, *wrong.values(), RISK)["answers"]
    for words, answer in zip(wrong, answers, strict=True):
        assert words in answer["error"]
    assert last["finite"] is True


def test_numbers_that_are_none_are_told(serve: Serve) -> None:
    logarithm = models.unary("Log", shape=["N"])
    told = of(serve, logarithm, *(asked("x", "FP32", [2], [1, number], y=[2]) for number in (1, -1, 0)))
    assert [answer["finite"] for answer in told["answers"]] == [True, False, False]
    assert [answer["outputs"][0]["data"] for answer in told["answers"]] == [[0, 0], [0, None], [0, None]]
    assert told["smoke"] == {"outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}], "finite": False}


def test_a_run_that_fails_is_answered_in_words(serve: Serve) -> None:
    told = of(serve, models.lookup(), asked("x", "INT64", [1], [8]), asked("x", "INT64", [2], [0, 1], y=[2, 2]))
    failed, good = told["answers"]
    assert "indices element out of data bounds" in failed["error"]
    assert good["outputs"][0]["data"] == [0, 1, 2, 3]


def test_an_output_of_another_shape_than_declared_is_an_error(serve: Serve) -> None:
    declared = models.model(
        [helper.make_node("Identity", ["x"], ["y"])],
        [models.value("x", models.FLOAT, ["N", "K"])],
        [models.value("y", models.FLOAT, ["N", 2])],
    )
    told = of(
        serve, declared, asked("x", "FP32", [2, 2], [1, 2, 3, 4], y=[2, 2]), asked("x", "FP32", [1, 3], [1, 2, 3])
    )
    good, wrong = told["answers"]
    words = "output 'y' has the shape [1, {}], and the model declares [-1, 2] (-1: any)"
    assert told["smoke"] == {"error": words.format(1)}
    assert good["outputs"] == [tensor("y", "FP32", [2, 2], [1, 2, 3, 4])]
    assert wrong == {"error": words.format(3)}


def test_every_datatype_is_asked_and_answered_in_json(serve: Serve) -> None:
    special: dict[str, list[Any]] = {"BOOL": [True, False], "BYTES": ["é", ""], "FP16": [0.5, -2], "FP64": [1e300, 0.1]}
    data = {name: special.get(name, [0, 1]) for name in (*models.TYPES, "FP16")}
    inputs = [tensor(f"in-{name}", name, [2], values) for name, values in data.items()]
    told = of(serve, models.every_datatype("FP16"), {"inputs": inputs, "data": {f"out-{name}": [2] for name in data}})
    expected = [tensor(f"out-{name}", name, [2], values) for name, values in data.items()]
    assert told["answers"] == [{"outputs": expected, "finite": True}]
    assert [(one["name"], one["shape"]) for one in told["smoke"]["outputs"]] == [(f"out-{name}", [1]) for name in data]


def test_dimensions_that_are_free_take_what_the_model_takes(serve: Serve) -> None:
    images = [asked("x", "FP32", [1, 3, size, size], [1] * 3 * size**2, y=[1, 1, 2, 2]) for size in (6, 4)]
    told = of(serve, models.convolution(), *images)
    assert told["smoke"]["outputs"][0]["shape"] == [1, 1, 28, 28]
    assert told["answers"][0]["outputs"][0] == tensor("y", "FP32", [1, 1, 2, 2], [75] * 4)
    assert "the model" in told["answers"][1]["error"]
    anything = of(serve, models.of_any_shape(), asked("x", "FP32", [2, 1], [1, 2], y=[2, 1]))
    assert anything["answers"][0]["outputs"] == [tensor("y", "FP32", [2, 1], [1, 2])]


@pytest.fixture
def strict(serve: Serve, tmp_path: Path) -> Server:
    """A server whose callers need an API key and an idempotency key."""
    (tmp_path / "keys").write_text(keys.line_of(ANN, "ann"))
    options = ("--name", "risk", "--api-keys", str(tmp_path / "keys"), "--access-log")
    kept = ("--idempotency-mode", "required", "--idempotency-store", f"sqlite://{tmp_path}/store.db")
    return serve(EXAMPLE / "model.onnx", *options, *kept, **SETTINGS).ready()


def records(database: Path) -> int:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        counts = [connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names]
    finally:
        connection.close()
    return sum(counts)


def counted(caller: httpx.Client) -> dict[tuple[str, ...], float]:
    """Every sample that tells of callers, as far as there is something to tell."""
    about = ("requests", "request_duration", "rejected", "idempotency", "queued", "inflight")
    names = tuple(f"onceserve_{name}" for name in about)
    return {name: value for name, value in samples(caller).items() if name[0].startswith(names) and value}


def test_it_takes_no_keys_of_callers_and_leaves_nothing_behind(strict: Server, tmp_path: Path) -> None:
    before = records(tmp_path / "store.db")
    with calling(strict) as caller:
        assert "error" in report(caller, RISK, asked("X", "FP32", [1, 1], [1]))["answers"][1]
        assert ask(caller, headers={**AS_OPERATOR, "Idempotency-Key": '"a"'}).status_code == 200
        assert ask(caller, headers={}).status_code == 401
        assert counted(caller) == {}
    assert records(tmp_path / "store.db") == before
    assert not [one for one in strict.records() if one["logger"] == "onceserve_serving.access"]


def test_callers_are_seen_all_the_same(strict: Server, tmp_path: Path) -> None:
    before = records(tmp_path / "store.db")
    with calling(strict) as caller:
        as_ann = {"X-API-Key": ANN, "Idempotency-Key": '"a"'}
        assert caller.post(INFER, json=RISK, headers=as_ann).headers["idempotency-attempt"] == "1"
        assert counted(caller)["onceserve_requests_total", "200", "http"] == 1
        assert caller.post(INFER, json=RISK, headers={**AS_OPERATOR, "Idempotency-Key": '"b"'}).status_code == 401
    assert records(tmp_path / "store.db") > before


def test_over_tls(serve: Serve, tmp_path: Path) -> None:
    authority = Authority()
    cert, private = authority.issue().write(tmp_path)
    server = serve(EXAMPLE / "model.onnx", "--tls-cert", str(cert), "--tls-key", str(private), **SETTINGS).ready()
    trust = ssl.create_default_context(cadata=authority.cert.decode())
    with httpx.Client(
        base_url=f"https://127.0.0.1:{server.port()}", verify=trust, trust_env=False, timeout=20
    ) as caller:
        assert report(caller, RISK)["answers"][0]["finite"] is True


def test_a_model_that_is_not_there_yet_is_asked_again_later(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = serve(f"http://127.0.0.1:{silent.getsockname()[1]}/m.onnx", **SETTINGS)
        with calling(server) as caller:
            answer = ask(caller)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert "the model is loading" in answer.json()["error"]


def test_a_server_of_several_models_is_not_verified(serve: Serve) -> None:
    other = f"b={EXAMPLE / 'model.onnx'}"
    with calling(serve(EXAMPLE / "model.onnx", "--model", other, **SETTINGS).ready()) as caller:
        answer = ask(caller)
    assert answer.status_code == 404
    assert "this one has 2" in answer.json()["error"]


def test_a_draining_server_still_answers(serve: Serve) -> None:
    server = serve(EXAMPLE / "model.onnx", "--drain-delay", "60", **SETTINGS).ready()
    with calling(server) as caller:
        server.signal(signal.SIGTERM)
        until(lambda: caller.get("/v2/health/ready").status_code == 503, "the server drains")
        assert report(caller, RISK)["answers"][0]["finite"] is True


def test_neither_token_nor_key_is_logged(serve: Serve) -> None:
    server = serve(EXAMPLE / "model.onnx", "--access-log", "--log-level", "debug", **SETTINGS).ready()
    wrong = token(b"another", "default", "r7")
    with calling(server) as caller:
        report(caller, RISK)
        assert ask(caller, headers={HEADER: wrong}).status_code == 401
    server.signal()
    assert server.wait() == 0
    assert not [secret for secret in (TOKEN, key(TOKEN), wrong) if secret in server.log()]


@dataclass
class Pressure:
    """Callers and verifications of a slow model without pause, until there were enough of each kind of answer."""

    caller: httpx.AsyncClient
    verified: Counter[int] = field(default_factory=Counter)
    answered: Counter[int] = field(default_factory=Counter)

    @property
    def enough(self) -> bool:
        return min(self.verified[200], self.verified[503]) >= 10 and self.answered[200] >= 100

    async def until_enough(self, once: Callable[[], Awaitable[None]]) -> None:
        while not self.enough:
            await once()

    async def verify(self) -> None:
        golden = [asked("n", "INT64", [1], [number], y=[1]) for number in range(4)]
        answer = await self.caller.post(PATH, json={"requests": golden}, headers=AS_OPERATOR)
        self.verified[answer.status_code] += 1
        if answer.status_code == 200:
            outputs = [one["outputs"][0]["data"] for one in answer.json()["answers"]]
            assert outputs == [[500 + number] for number in range(4)]

    async def call(self) -> None:
        answer = await self.caller.post("/v2/models/m/infer", json=row("n", "INT64", [7]))
        self.answered[answer.status_code] += 1
        assert answer.json()["outputs"][0]["data"] == [507]


async def test_callers_are_served_and_counted_while_two_verify_without_pause(serve: Serve) -> None:
    server = serve(models.slow(500), **SETTINGS).ready()
    async with httpx.AsyncClient(base_url=server.url(), trust_env=False, timeout=20) as caller:
        pressure = Pressure(caller)
        tasks = [pressure.until_enough(once) for once in (*[pressure.call] * 4, *[pressure.verify] * 2)]
        async with asyncio.timeout(60):
            await asyncio.gather(*tasks)
    assert pressure.verified.keys() == {200, 503}
    assert pressure.answered.keys() == {200}
    with calling(server) as watcher:
        told = counted(watcher)
    assert told["onceserve_requests_total", "200", "http"] == pressure.answered[200]
    assert told["onceserve_request_duration_seconds_count",] == pressure.answered[200]
    assert all(name[0].startswith(("onceserve_requests_", "onceserve_request_duration_")) for name in told)
