"""What the operator asks of real server processes."""

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from contract.serving.conftest import EXAMPLE, Serve, _factory
from contract.serving.process import Server, row
from onceserve_contract import environment, verification
from onceserve_operator.api.rollout import GoldenRequest, MetricCheck, Tensor, Verification
from onceserve_operator.domain import Pod, Verdict
from onceserve_operator.inspection.calls import Calls, NoAnswerError
from onceserve_operator.inspection.wanted import Shift, Wanted
from support.certificates import Authority
from unit.operator.inspection.inspected import KEY, SECRET, Inspected
from unit.serving import models

REVISION = "risk-2"
TOKEN = verification.token(SECRET, KEY.namespace, REVISION)
OPEN = {environment.VERIFICATION_KEY: verification.key(TOKEN)}
MODEL = EXAMPLE / "model.onnx"
SHA = hashlib.sha256(MODEL.read_bytes()).hexdigest()
ROW: list[float] = json.loads((EXAMPLE / "test-set.json").read_text())["rows"][0]
ADDRESS = "127.0.0.1"
POD = Pod("risk-2-a", REVISION, ready=True, leaving=False, uid="a", address=ADDRESS)
INFER = "/v2/models/m/infer"


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    yield from _factory(tmp_path_factory)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the example model that may be verified."""
    for start in _factory(tmp_path_factory):
        yield start(MODEL, "--name", "m", "--model-version", REVISION, **OPEN).ready()


def http(server: Server) -> httpx.Client:
    return httpx.Client(base_url=server.url(), timeout=20, trust_env=False)


@pytest.fixture(scope="module")
def golden(example: Server) -> GoldenRequest:
    """A request with the answer that users get."""
    with http(example) as client:
        asked = row("X", "FP32", ROW, [1, len(ROW)])
        answered = client.post(INFER, json=asked).json()
    fields = ("name", "datatype", "shape", "data")
    expected = [Tensor(**{field: output[field] for field in fields}) for output in answered["outputs"]]
    return GoldenRequest(inputs=[Tensor(**each) for each in asked["inputs"]], expected=expected)


Inspect = Callable[[Server], Inspected]


@pytest.fixture
async def inspect() -> AsyncIterator[Inspect]:
    """Makes inspectors that end with the test."""
    made: list[Inspected] = []

    def inspect(server: Server) -> Inspected:
        made.append(Inspected(Calls(port=server.port()), sampling=0.1))
        return made[-1]

    yield inspect
    for one in made:
        await one.inspector.stop()


async def verdict(inspected: Inspected, *requests: GoldenRequest, sha256: str | None = SHA) -> Verdict:
    inspected.want(KEY, Wanted(REVISION, "http", sha256, Verification(requests=list(requests)), (POD,)))
    found = await inspected.until(lambda seen: seen.verdicts, seconds=20)
    return found.verdicts[POD.uid]


def altered(request: GoldenRequest, output: int, **changes: Any) -> GoldenRequest:
    expected = [*request.expected]
    expected[output] = expected[output].model_copy(update=changes)
    return request.model_copy(update={"expected": expected})


async def test_the_right_model_is_verified(example: Server, golden: GoldenRequest, inspect: Inspect) -> None:
    inspected = inspect(example)
    without = golden.model_copy(update={"expected": []})
    assert await verdict(inspected, golden, without) == Verdict(SHA)
    assert inspected.news == [KEY]
    assert await verdict(inspected) == Verdict(SHA)


async def test_a_wrong_answer_and_another_model_are_told(
    example: Server, golden: GoldenRequest, inspect: Inspect
) -> None:
    inspected = inspect(example)
    label = golden.expected[0]
    assert (label.datatype, label.shape) == ("INT64", [1])
    right = label.data[0]
    wrong = await verdict(inspected, golden, altered(golden, 0, data=[right + 7]))
    assert wrong.problem is not None
    assert wrong.problem.reason == "WrongAnswer"
    assert wrong.problem.message == (
        f'Request 2: output "{label.name}" at [0]: got {right}, expected {right + 7}, tolerance 0'
    )
    other = await verdict(inspected, golden, sha256="ab" * 32)
    assert other.sha256 == SHA
    assert other.problem is not None
    assert other.problem.reason == "DigestMismatch"


async def test_the_tolerance_is_what_decides(example: Server, golden: GoldenRequest, inspect: Inspect) -> None:
    inspected = inspect(example)
    near = altered(golden, 1, data=[value + 1e-3 for value in golden.expected[1].data])
    assert (await verdict(inspected, near)).problem is not None
    assert await verdict(inspected, near.model_copy(update={"tolerance": "0.01"})) == Verdict(SHA)


async def test_inputs_that_the_model_does_not_take_are_told(
    example: Server, golden: GoldenRequest, inspect: Inspect
) -> None:
    inspected = inspect(example)
    inputs = [golden.inputs[0].model_copy(update={"name": "nope"})]
    found = await verdict(inspected, golden.model_copy(update={"inputs": inputs}))
    assert found.problem is not None
    assert found.problem.message.startswith("Request 1: no answer: ")
    assert "nope" in found.problem.message


async def test_what_is_no_number_is_matched_by_null(serve: Serve, inspect: Inspect) -> None:
    server = serve(models.unary("Log", shape=["N"]), "--name", "m", **OPEN).ready()
    inspected = inspect(server)
    inputs = [Tensor(name="x", datatype="FP32", shape=[2], data=[1, -1])]
    expected = [Tensor(name="y", datatype="FP32", shape=[2], data=[0, None])]
    assert (await verdict(inspected, GoldenRequest(inputs=inputs, expected=expected), sha256=None)).problem is None
    bare = await verdict(inspected, GoldenRequest(inputs=inputs), sha256=None)
    assert bare.problem is not None
    assert bare.problem.message == "Request 1: an output is not finite"


async def test_a_model_with_large_outputs_is_verified(serve: Serve, inspect: Inspect) -> None:
    inspected = inspect(serve(models.enlarging([1, 3, 1024, 1024]), "--name", "m", **OPEN).ready())
    inputs = [Tensor(name="x", datatype="FP32", shape=[1], data=[0.1])]
    assert (await verdict(inspected, GoldenRequest(inputs=inputs), sha256=None)).problem is None
    expected = [Tensor(name="y", datatype="FP32", shape=[1], data=[0.1])]
    small = await verdict(inspected, GoldenRequest(inputs=inputs, expected=expected), sha256=None)
    assert small.problem is not None
    assert small.problem.message == 'Request 1: output "y" has shape [1, 3, 1024, 1024], expected [1]'


async def test_one_that_knows_no_token_or_another_is_asked_again_and_told(serve: Serve, inspect: Inspect) -> None:
    stranger = verification.key(verification.token(SECRET, KEY.namespace, "risk-1"))
    for given, told in (({}, "it answered 404: "), ({environment.VERIFICATION_KEY: stranger}, "it answered 401: ")):
        inspected = inspect(serve(MODEL, "--name", "m", **given).ready())
        inspected.want(KEY, Wanted(REVISION, "http", SHA, Verification(), (POD,)))
        found = await inspected.until(lambda one: one.unanswered, seconds=20)
        assert found.unanswered[POD.uid].startswith(told)
        assert not found.verdicts


async def test_pods_with_certificates_are_called_by_address(serve: Serve, tmp_path: Path) -> None:
    cert, key = Authority().issue().write(tmp_path / "tls")
    server = serve(MODEL, "--name", "m", "--tls-cert", str(cert), "--tls-key", str(key), **OPEN).ready()
    calls = Calls(port=server.port())
    assert json.loads(await calls.verify(ADDRESS, "https", TOKEN, []))["sha256"] == SHA
    assert (await calls.sample(ADDRESS, "https")).timed == 0
    with pytest.raises(NoAnswerError, match="it cannot be called: ClientConnectorCertificateError: "):
        await calls.query(f"https://{ADDRESS}:{server.port()}", "up")


async def test_what_users_were_answered_is_measured_and_verifications_are_not(serve: Serve, inspect: Inspect) -> None:
    server = serve(models.unary("Log", shape=["N"]), "--name", "m", **OPEN).ready()
    inspected = inspect(server)
    checks = [
        MetricCheck(name="ErrorRate", max="0.5", min_samples=4),
        MetricCheck(name="LatencyP99", max="30s", min_samples=4),
    ]
    stable = replace(POD, uid="b", name="risk-1-a")
    wanted = Wanted(
        REVISION, "http", None, Verification(metrics=checks), (POD,), Shift((POD,), (stable,), "risk-1", "http")
    )
    inspected.want(KEY, wanted)
    await inspected.until(lambda one: one.measured and one.verdicts, seconds=20)
    outcomes = {200: row("x", "FP32", [1, 2]), 400: row("x", "INT64", [1]), 500: row("x", "FP32", [-1])}
    with http(server) as client:
        for status in (200, 200, 400, 500):
            assert client.post(INFER, json=outcomes[status]).status_code == status
        found = await inspected.until(lambda one: one.measured and "1 of 4" in one.measured.message, seconds=20)
        assert found.measured is not None
        assert found.measured.problem is None
        rate, latency = found.measured.message.split("; ")
        assert rate == "ErrorRate is 0.25 (1 of 4 requests), at most 0.5"
        assert latency.startswith("LatencyP99 is ")
        for _ in range(3):
            client.post(INFER, json=outcomes[500])
    found = await inspected.until(lambda one: one.measured and one.measured.problem, seconds=20)
    assert found.measured is not None
    assert found.measured.problem is not None
    assert found.measured.problem.message == "ErrorRate is 0.5714 (4 of 7 requests), at most 0.5 is allowed"


async def test_a_server_that_dies_and_comes_back_is_counted_on(serve: Serve, inspect: Inspect) -> None:
    model = models.identity()
    first = serve(model, "--name", "m").ready()
    port = first.port()
    inspected = inspect(first)
    checks = [MetricCheck(name="ErrorRate", max="0.5", min_samples=1)]
    inspected.want(
        KEY, Wanted(REVISION, "http", None, Verification(metrics=checks), (), Shift((POD,), (), "risk-1", "http"))
    )
    body = row("x", "FP32", [1, 2, 3], [1, 3])
    with http(first) as client:
        assert [client.post(INFER, json=body).status_code for _ in range(3)] == [200] * 3
    await inspected.until(lambda one: one.measured and "0 of 3" in one.measured.message, seconds=20)
    first.stop()
    await inspected.until(
        lambda one: one.measured and "1 of 1 pods told no metrics" in one.measured.message, seconds=20
    )
    second = serve(model, "--name", "m", "--port", str(port)).ready()
    with http(second) as client:
        assert client.post(INFER, json=body).status_code == 200
    found = await inspected.until(lambda one: one.measured and "0 of 4" in one.measured.message, seconds=20)
    assert found.measured is not None
    assert found.measured.message == "ErrorRate is 0 (0 of 4 requests), at most 0.5"
