import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from onceserve_contract import http, verification
from onceserve_operator.api.rollout import GoldenRequest, MetricCheck, Prometheus, PrometheusQuery, Tensor, Verification
from onceserve_operator.autoscaling.autoscaler import Autoscaler
from onceserve_operator.domain import Key, Pod, Seen, Verdict
from onceserve_operator.inspection import golden, inspector
from onceserve_operator.inspection.calls import Calls
from onceserve_operator.inspection.wanted import Shift, Wanted
from onceserve_operator.kube.client import Client
from onceserve_operator.plan import Defaults
from onceserve_operator.reconciler import Reconciler
from onceserve_operator.telemetry import Metrics
from support.worlds import World
from unit.operator.inspection import misbehaving
from unit.operator.inspection.inspected import KEY, SECRET, Inspected
from unit.operator.inspection.misbehaving import SHA, Pods, says

OTHER = Key("shop", "other")
GOOD = Verdict(SHA)
PERIOD = 0.02


def pod(number: int, revision: str = "risk-2") -> Pod:
    name = f"{revision}-{number}"
    return Pod(name, revision, ready=True, leaving=False, uid=name, address=f"127.0.0.{number}")


def request(value: float) -> GoldenRequest:
    inputs = [Tensor(name="x", datatype="FP32", shape=[1], data=[1])]
    return GoldenRequest(inputs=inputs, expected=[Tensor(name="y", datatype="FP32", shape=[1], data=[value])])


def wanted(*pods: Pod, requests: list[GoldenRequest] | None = None, sha256: str | None = SHA) -> Wanted:
    given = [request(0.5)] if requests is None else requests
    return Wanted("risk-2", "http", sha256, Verification(requests=given), pods)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspector, "_FIRST_DELAY", 0.02)
    monkeypatch.setattr(inspector, "_LAST_DELAY", 0.04)


def patient(pods: Pods) -> Calls:
    return Calls(port=pods.port, metrics_timeout=0.3, query_timeout=0.3)


@pytest.fixture
async def inspected(pods: Pods) -> AsyncIterator[Inspected]:
    one = Inspected(patient(pods))
    yield one
    await one.inspector.stop()
    left = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith(("verify", "measure"))]
    assert left == []


def verifications(pods: Pods) -> int:
    return sum(count for (_, path), count in pods.calls.items() if path == verification.PATH)


async def test_pods_are_verified_once(pods: Pods, inspected: Inspected) -> None:
    assert inspected.seen() == Seen()
    both = wanted(pod(1), pod(2))
    inspected.want(KEY, both)
    assert inspected.seen() == Seen()
    found = await inspected.until(lambda seen: len(seen.verdicts) == 2)
    assert found == Seen({"risk-2-1": GOOD, "risk-2-2": GOOD})
    assert inspected.news == [KEY, KEY]
    assert pods.tokens == [verification.token(SECRET, "shop", "risk-2")] * 2

    inspected.want(KEY, both)
    inspected.want(KEY, wanted(replace(pod(1), ready=False), pod(2), pod(3)))
    await inspected.until(lambda seen: len(seen.verdicts) == 3)
    assert verifications(pods) == 3


async def test_what_is_wrong_is_a_verdict_and_not_asked_again(pods: Pods, inspected: Inspected) -> None:
    inspected.want(KEY, wanted(pod(1), requests=[request(0.7)]))
    found = await inspected.until(lambda seen: seen.verdicts)
    problem = found.verdicts["risk-2-1"].problem
    assert problem is not None
    assert problem.message == 'Request 1: output "y" at [0]: got 0.5, expected 0.7, tolerance 0'
    await asyncio.sleep(0.1)
    assert verifications(pods) == 1


@pytest.mark.parametrize("change", [{"requests": [request(0.7)]}, {"sha256": "cd" * 32}])
async def test_another_question_is_asked_anew(pods: Pods, inspected: Inspected, change: dict[str, Any]) -> None:
    inspected.want(KEY, wanted(pod(1)))
    await inspected.until(lambda seen: seen.verdicts)
    inspected.want(KEY, wanted(pod(1), **change))
    assert inspected.seen() == Seen()
    found = await inspected.until(lambda seen: seen.verdicts)
    assert found.verdicts["risk-2-1"].problem is not None


async def test_other_bounds_are_no_other_question(pods: Pods, inspected: Inspected) -> None:
    one = wanted(pod(1))
    inspected.want(KEY, one)
    await inspected.until(lambda seen: seen.verdicts)
    metrics = [MetricCheck(name="ErrorRate", max="0.1")]
    inspected.want(KEY, replace(one, verification=one.verification.model_copy(update={"metrics": metrics})))
    assert inspected.seen().verdicts
    await asyncio.sleep(0.05)
    assert verifications(pods) == 1


async def test_what_is_wanted_no_longer_is_forgotten(pods: Pods, inspected: Inspected) -> None:
    pods.behaviours["127.0.0.2"] = misbehaving.slow
    pods.behaviours["127.0.0.3"] = says("", 503)
    inspected.want(KEY, wanted(pod(1), pod(2), pod(3)))
    await inspected.until(lambda seen: seen.verdicts and seen.unanswered)
    inspected.want(KEY, wanted(pod(4)))
    assert inspected.seen() == Seen()
    found = await inspected.until(lambda seen: seen.verdicts)
    assert found == Seen({"risk-2-4": GOOD})
    before = pods.calls["127.0.0.3", verification.PATH]
    await asyncio.sleep(0.1)
    assert pods.calls["127.0.0.3", verification.PATH] == before
    assert pods.now == 0

    inspected.want(KEY, None)
    assert inspected.seen() == Seen()
    inspected.want(KEY, None)


async def test_a_pod_that_does_not_answer_is_asked_until_it_does(pods: Pods, inspected: Inspected) -> None:
    pods.behaviours["127.0.0.1"] = says('{"error": "the model is loading"}', 503)
    inspected.want(KEY, wanted(pod(1)))
    found = await inspected.until(lambda seen: seen.unanswered)
    assert found == Seen(unanswered={"risk-2-1": "it answered 503: the model is loading"})
    await asyncio.sleep(0.2)
    assert verifications(pods) >= 3
    assert inspected.news == [KEY]
    pods.behaviours["127.0.0.1"] = misbehaving.closes
    await inspected.until(lambda seen: "it cannot be called" in seen.unanswered["risk-2-1"])
    assert inspected.news == [KEY] * 2
    del pods.behaviours["127.0.0.1"]
    assert await inspected.until(lambda seen: seen.verdicts) == Seen({"risk-2-1": GOOD})
    assert inspected.news == [KEY] * 3


async def test_a_pod_that_is_being_asked_is_not_asked_again_for_another(pods: Pods, inspected: Inspected) -> None:
    pods.behaviours["127.0.0.1"] = misbehaving.slow
    inspected.want(KEY, wanted(pod(1), pod(2)))
    await inspected.until(lambda seen: seen.verdicts)
    inspected.want(KEY, wanted(pod(1), pod(2), pod(3)))
    await inspected.until(lambda seen: len(seen.verdicts) == 2)
    assert pods.calls["127.0.0.1", verification.PATH] == pods.now == 1


async def test_a_pod_is_asked_where_it_is_now(pods: Pods, inspected: Inspected) -> None:
    pods.behaviours["127.0.0.1"] = misbehaving.slow
    unplaced = replace(pod(1), address="")
    inspected.want(KEY, wanted(unplaced))
    await asyncio.sleep(0.05)
    assert inspected.seen() == Seen()
    inspected.want(KEY, wanted(pod(1)))
    await asyncio.sleep(0.05)
    inspected.want(KEY, wanted(replace(pod(1), address="127.0.0.2")))
    await inspected.until(lambda seen: seen.verdicts)
    assert {address for address, _ in pods.calls} == {"127.0.0.1", "127.0.0.2"}


async def test_a_slow_pod_delays_no_other_and_calls_are_bounded(pods: Pods) -> None:
    inspected = Inspected(patient(pods), concurrency=3)
    for number in (1, 2):
        pods.behaviours[f"127.0.0.{number}"] = misbehaving.slow
    inspected.want(KEY, wanted(*(pod(number) for number in range(1, 9))))
    inspected.want(OTHER, wanted(pod(9), pod(10)))
    await inspected.until(lambda seen: len(seen.verdicts) == 6)
    await inspected.until(lambda seen: len(seen.verdicts) == 2, OTHER)
    assert pods.most == 3
    await inspected.inspector.stop()
    assert inspected.seen() == Seen()


async def test_silent_pods_of_one_take_few_of_the_turns_of_all(pods: Pods) -> None:
    inspected = Inspected(patient(pods), concurrency=inspector._TURNS + 1)
    numbers = range(1, 21)
    pods.behaviours = {f"127.0.0.{number}": misbehaving.slow for number in numbers}
    inspected.want(KEY, wanted(*map(pod, numbers)))
    await asyncio.sleep(0.1)
    inspected.want(OTHER, wanted(pod(31), pod(32)))
    await inspected.until(lambda seen: len(seen.verdicts) == 2, OTHER)
    assert pods.now == inspector._TURNS
    await inspected.inspector.stop()


async def test_one_answer_is_unpacked_at_a_time(
    pods: Pods, inspected: Inspected, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, turn, crowded = golden.judge, threading.Lock(), list[bool]()

    def judge(*arguments: Any) -> Verdict:
        crowded.append(not turn.acquire(blocking=False))
        time.sleep(0.02)
        if not crowded[-1]:
            turn.release()
        return real(*arguments)

    monkeypatch.setattr(golden, "judge", judge)
    inspected.want(KEY, wanted(pod(1), pod(2)))
    inspected.want(OTHER, wanted(pod(3), pod(4)))
    await inspected.until(lambda seen: len(seen.verdicts) == 2)
    await inspected.until(lambda seen: len(seen.verdicts) == 2, OTHER)
    assert crowded == [False] * 4


async def test_a_spec_that_cannot_be_read_ends_the_asking(pods: Pods, inspected: Inspected) -> None:
    pods.behaviours["127.0.0.1"] = misbehaving.slow
    manifest = {"apiVersion": "onceserve.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "risk"}}
    world = World({**manifest, "spec": {"replicas": 5000, "model": {"uri": "https://models.example/a.onnx"}}})
    client, scaler = AsyncMock(Client), Autoscaler(inspected.news.append)
    client.apply_status.return_value = None
    reconciler = Reconciler(
        client,
        world.cache,
        inspected.inspector,
        scaler,
        Metrics(),
        defaults=Defaults("image", SECRET),
        clock=lambda: world.now,
    )
    inspected.want(world.key, wanted(pod(1), pod(2)))
    await inspected.until(lambda seen: seen.verdicts, world.key)
    assert pods.now == 1
    await reconciler.reconcile(world.key)
    assert inspected.seen(world.key) == Seen()
    async with asyncio.timeout(5):
        while pods.now:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    [(_, status)] = [call.args for call in client.apply_status.await_args_list]
    assert "spec.replicas" in str(status)
    await scaler.stop()


async def test_an_unexpected_error_is_logged_and_the_pod_is_asked_again(
    pods: Pods, inspected: Inspected, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, errors = golden.judge, [KeyError("a bug")]

    def judge(*arguments: Any) -> Verdict:
        if errors:
            raise errors.pop()
        return real(*arguments)

    monkeypatch.setattr(golden, "judge", judge)
    with caplog.at_level(logging.ERROR):
        inspected.want(KEY, wanted(pod(1)))
        await inspected.until(lambda seen: seen.verdicts)
    assert "shop/risk: verifying pod risk-2-1 failed and will be tried again" in caplog.text
    assert "a bug" in caplog.text


# --- measuring

STABLE = pod(101, "risk-1")


def shifting(
    *targets: Pod,
    stable: tuple[Pod, ...] = (STABLE,),
    metrics: list[MetricCheck] | None = None,
    prometheus: Prometheus | None = None,
) -> Wanted:
    checks = [MetricCheck(name="ErrorRate", max="0.1", min_samples=10)] if metrics is None else metrics
    asked = Verification(metrics=checks, prometheus=prometheus)
    return Wanted("risk-2", "http", None, asked, (), Shift(targets, stable, "risk-1", "http"))


def message(seen: Seen) -> str:
    return seen.measured.message if seen.measured else ""


async def test_pods_are_measured_while_traffic_shifts(pods: Pods, inspected: Inspected) -> None:
    pods.requests["127.0.0.1"] = {"200": 6}
    one = shifting(pod(1), pod(2))
    inspected.want(KEY, one)
    await inspected.until(lambda seen: message(seen) == "ErrorRate is not judged yet: 6 of 10 requests")
    pods.requests["127.0.0.2"] = {"200": 4}
    await inspected.until(lambda seen: message(seen) == "ErrorRate is 0 (0 of 10 requests), at most 0.1")
    pods.requests["127.0.0.2"] = {"200": 4, "500": 10}
    found = await inspected.until(lambda seen: seen.measured and seen.measured.problem)
    assert message(found) == "ErrorRate is 0.5 (10 of 20 requests), at most 0.1 is allowed"
    news = len(inspected.news)
    await asyncio.sleep(5 * PERIOD)
    assert len(inspected.news) == news

    inspected.want(KEY, replace(one, shift=None))
    assert inspected.seen() == Seen()
    await asyncio.sleep(PERIOD)
    calls = pods.calls.copy()
    await asyncio.sleep(5 * PERIOD)
    assert pods.calls == calls


async def test_what_the_old_revision_answered_before_the_shift_is_not_compared(
    pods: Pods, inspected: Inspected
) -> None:
    stable = STABLE.address
    pods.requests = {"127.0.0.1": {"200": 10}, stable: {"200": 1000, "500": 1000}}
    checks = [MetricCheck(name="ErrorRate", max_of_stable="100%", min_samples=10)]
    inspected.want(KEY, shifting(pod(1), metrics=checks))
    await inspected.until(lambda seen: "the old revision has 0 of 10 requests" in message(seen))
    pods.requests[stable] = {"200": 1009, "500": 1001}
    found = await inspected.until(lambda seen: "not compared" not in message(seen))
    assert message(found) == (
        "ErrorRate is 0 (0 of 10 requests), at most 100% of the old revision's 0.1 (1 of 10 requests)"
    )


async def test_restarts_are_counted_and_what_gone_pods_answered_stays(pods: Pods, inspected: Inspected) -> None:
    pods.requests = {"127.0.0.1": {"200": 20}, "127.0.0.2": {"200": 7}}
    inspected.want(KEY, shifting(pod(1), pod(2)))
    await inspected.until(lambda seen: "0 of 27 requests" in message(seen))
    pods.requests["127.0.0.1"] = {"500": 3}
    await inspected.until(lambda seen: "3 of 30 requests" in message(seen))
    inspected.want(KEY, shifting(pod(1), pod(3)))
    pods.requests["127.0.0.3"] = {"200": 1}
    await inspected.until(lambda seen: "3 of 31 requests" in message(seen))


async def test_pods_that_tell_nothing_are_counted_and_the_others_judged(pods: Pods, inspected: Inspected) -> None:
    pods.requests["127.0.0.1"] = {"200": 10}
    pods.behaviours = dict.fromkeys(("127.0.0.2", STABLE.address), misbehaving.closes)
    inspected.want(KEY, shifting(pod(1), pod(2), replace(pod(3), address="")))
    found = await inspected.until(lambda seen: "told" in message(seen))
    assert message(found) == (
        "ErrorRate is 0 (0 of 10 requests), at most 0.1; 2 of 3 pods told no metrics "
        "(risk-2-2: it cannot be called: ServerDisconnectedError: Server disconnected)"
    )
    pods.behaviours.clear()
    await inspected.until(lambda seen: "told" not in message(seen))


async def test_another_shift_begins_anew(pods: Pods, inspected: Inspected) -> None:
    pods.requests["127.0.0.1"] = {"500": 10}
    one = shifting(pod(1))
    inspected.want(KEY, one)
    await inspected.until(lambda seen: seen.measured and seen.measured.problem)
    inspected.want(KEY, replace(one, revision="risk-3", shift=Shift((pod(3),), (), "risk-1", "http")))
    assert inspected.seen() == Seen()
    found = await inspected.until(lambda seen: seen.measured)
    assert message(found) == "ErrorRate is not judged yet: 0 of 10 requests"


async def test_a_prometheus_is_asked_with_its_variables(pods: Pods, inspected: Inspected) -> None:
    query = PrometheusQuery(name="errors", query="f($namespace,$name,$revision,$stable)", max="0.5")
    prometheus = Prometheus(url=f"http://127.0.0.99:{pods.port}", queries=[query])
    inspected.want(KEY, shifting(pod(1), metrics=[], prometheus=prometheus))
    await inspected.until(lambda seen: message(seen) == "errors is 0.25, at most 0.5")
    assert set(pods.bodies) == {"f(shop,risk,risk-2,risk-1)"}
    assert not any(path == http.METRICS_PATH for _, path in pods.calls)
    pods.behaviours["127.0.0.99"] = says('{"status": "error", "error": "parse error"}', 400)
    await inspected.until(lambda seen: message(seen) == "errors is not judged: Prometheus: it answered 400")
    assert inspected.seen().measured is not None
    high = misbehaving.prometheus("0.75").body
    assert isinstance(high, bytes)
    pods.behaviours["127.0.0.99"] = says(high)
    found = await inspected.until(lambda seen: seen.measured and seen.measured.problem)
    assert found.measured is not None
    assert found.measured.problem is not None
    assert found.measured.problem.reason == "QueryTooHigh"


async def test_a_slow_prometheus_holds_up_no_samples(pods: Pods, inspected: Inspected) -> None:
    pods.behaviours["127.0.0.99"] = misbehaving.slow
    queries = [PrometheusQuery(name=f"q{number}", query="up", max="1") for number in range(16)]
    prometheus = Prometheus(url=f"http://127.0.0.99:{pods.port}", queries=queries)
    pods.requests["127.0.0.1"] = {"500": 10}
    inspected.want(KEY, shifting(pod(1), prometheus=prometheus))
    await inspected.until(lambda seen: seen.measured and seen.measured.problem)
    assert "q1 is not judged: not asked yet" in message(inspected.seen())


async def test_an_unexpected_error_does_not_end_measuring(
    pods: Pods, inspected: Inspected, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, errors = Calls.sample, [KeyError("a bug")]

    async def sample(self: Calls, address: str, scheme: str) -> Any:
        if errors:
            raise errors.pop()
        return await real(self, address, scheme)

    monkeypatch.setattr(Calls, "sample", sample)
    with caplog.at_level(logging.ERROR):
        inspected.want(KEY, shifting(pod(1)))
        await inspected.until(message)
    assert "shop/risk: measuring failed and will be tried again" in caplog.text
