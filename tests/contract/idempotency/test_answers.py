"""A retry gets the bytes of the first answer, from whichever process."""

import gzip
import json
import signal
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from contract.idempotency import dice
from contract.idempotency.dice import ATTEMPT, KEY, PATH, REPLAYED, ask, body, is_replay, new_key
from contract.idempotency.fleet import ECHO, LOOKUP, Fleet, callers, executions
from contract.serving.process import row

ECHO_PATH = f"/v2/models/{ECHO}/infer"
LENGTH = "inference-header-content-length"
BAD_KEYS = ["", '""', '"', '"open', "two words", "caf\u00e9", "a" * 256, '"' + "a" * 256 + '"', '"a\tb"', '"\\a"']


@pytest.fixture
def two(pair: Fleet) -> Iterator[list[httpx.Client]]:
    with callers(*pair.servers) as clients:
        yield clients


def test_all_get_the_bytes_of_the_first(pair: Fleet, two: list[httpx.Client]) -> None:
    key, ran = new_key(), sum(map(executions, pair.servers))
    first, *others = [ask(caller, key) for caller in two * 3]
    assert (first.status_code, first.headers[ATTEMPT], is_replay(first)) == (200, "1", False)
    for other in others:
        assert (other.status_code, other.content, is_replay(other)) == (200, first.content, True)
        assert ATTEMPT not in other.headers
        kept = ("content-type", "content-length", "idempotency-model-version")
        assert [other.headers[name] for name in kept] == [first.headers[name] for name in kept]
    assert first.headers["idempotency-model-version"] == "r1"
    assert sum(map(executions, pair.servers)) == ran + 1


def test_without_a_key_each_request_is_run(two: list[httpx.Client]) -> None:
    answers = [two[0].post(PATH, json=body()) for _ in range(2)]
    assert answers[0].content != answers[1].content
    assert all(ATTEMPT not in answer.headers and REPLAYED not in answer.headers for answer in answers)


def test_quoted_and_bare_are_the_same_key(two: list[httpx.Client]) -> None:
    key = new_key()
    first, bare = ask(two[0], key), two[1].post(PATH, json=body(), headers={KEY: key})
    assert (bare.content, is_replay(bare)) == (first.content, True)


def test_the_longest_key_is_taken(two: list[httpx.Client]) -> None:
    key = new_key().ljust(255, "~")
    assert [is_replay(ask(two[0], key)) for _ in range(2)] == [False, True]


@pytest.mark.parametrize(
    ("path", "content", "media_type"),
    [
        (PATH, body(1), "application/json"),
        (PATH, body(), "application/json; charset=utf-8"),
        (PATH + "?a=b", body(), "application/json"),
        (f"/v2/models/{LOOKUP}/infer", row("x", "INT64", [1]), "application/json"),
    ],
    ids=["body", "media type", "query", "model"],
)
def test_another_request_under_the_key_is_refused(
    two: list[httpx.Client], path: str, content: object, media_type: str
) -> None:
    key, plain = new_key(), json.dumps(body())
    first = two[0].post(PATH, content=plain, headers={KEY: key, "Content-Type": "application/json"})
    for caller in two:
        other = caller.post(path, content=json.dumps(content), headers={KEY: key, "Content-Type": media_type})
        assert (other.status_code, other.headers["content-type"]) == (422, "application/problem+json")
        assert other.json()["type"] == "urn:onceserve:problem:idempotency-key-reused"
        assert REPLAYED not in other.headers
    again = two[1].post(PATH, content=plain, headers={KEY: key, "Content-Type": "application/json"})
    assert (again.content, is_replay(again)) == (first.content, True)


@pytest.mark.parametrize("key", BAD_KEYS, ids=ascii)
def test_what_is_no_key_is_refused_and_not_run(pair: Fleet, two: list[httpx.Client], key: str) -> None:
    ran = executions(pair.servers[0])
    refused = two[0].post(PATH, json=body(), headers=[(KEY.encode(), key.encode())])
    assert (refused.status_code, refused.headers["content-type"]) == (400, "application/problem+json")
    assert refused.json()["type"] == "urn:onceserve:problem:invalid-idempotency-key"
    assert "Idempotency-Key" in refused.json()["detail"]
    assert executions(pair.servers[0]) == ran


def test_two_keys_are_refused(two: list[httpx.Client]) -> None:
    refused = two[0].post(PATH, json=body(), headers=[(KEY, "a"), (KEY, "b")])
    assert refused.status_code == 400
    assert "2 times" in refused.json()["detail"]


def test_a_key_may_be_required(file_fleet: Fleet) -> None:
    with callers(file_fleet.start("--idempotency-mode", "required")) as [caller]:
        missing = caller.post(PATH, json=body())
        assert (missing.status_code, missing.json()["title"]) == (400, "The Idempotency-Key is not usable")
        assert "required" in missing.json()["detail"]
        assert ask(caller, new_key()).status_code == 200


@pytest.mark.parametrize("disabled", [False, True])
def test_a_key_that_would_not_be_heeded_is_refused(file_fleet: Fleet, disabled: bool) -> None:
    if not disabled:
        file_fleet.store = ""
    with callers(file_fleet.start(*(["--idempotency-mode", "disabled"] if disabled else []))) as [caller]:
        refused = ask(caller, new_key())
        assert refused.status_code == 400
        assert "keeps no answers" in refused.json()["detail"]
        assert caller.post(PATH, json=body()).status_code == 200


def test_what_does_not_fit_the_model_is_not_kept(two: list[httpx.Client]) -> None:
    key = new_key()
    wrong = two[0].post(PATH, json=row("none", "INT64", [1]), headers={KEY: key})
    right = ask(two[0], key)
    assert (wrong.status_code, right.status_code, is_replay(right)) == (400, 200, False)


def test_binary_tensors_are_replayed(two: list[httpx.Client]) -> None:
    raw = np.arange(6, dtype=np.float32).tobytes()
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, 3], "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {KEY: new_key(), LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
    first, other = [caller.post(ECHO_PATH, content=head + raw, headers=headers) for caller in two]
    assert first.content.endswith(raw)
    assert (other.status_code, other.content, is_replay(other)) == (200, first.content, True)
    assert other.headers[LENGTH] == first.headers[LENGTH]
    assert other.headers["content-type"] == first.headers["content-type"] == "application/octet-stream"


def test_a_body_is_the_same_request_however_it_is_compressed(two: list[httpx.Client]) -> None:
    key, plain = new_key(), json.dumps(body()).encode()
    headers = {KEY: key, "Content-Type": "application/json"}
    first = two[0].post(PATH, content=gzip.compress(plain), headers={**headers, "Content-Encoding": "gzip"})
    again = two[1].post(PATH, content=plain, headers=headers)
    assert (again.status_code, again.content, is_replay(again)) == (200, first.content, True)


def test_an_answer_is_replayed_in_the_coding_that_is_asked_for(two: list[httpx.Client]) -> None:
    key, large = new_key(), row("x", "FP32", [1.5] * 30_000, [10_000, 3])
    codings = [
        caller.post(ECHO_PATH, json=large, headers={KEY: key, "Accept-Encoding": coding})
        for caller, coding in zip(two * 2, ("gzip", "identity", "gzip", "identity"), strict=True)
    ]
    assert len({answer.content for answer in codings}) == 1
    assert [answer.headers.get("content-encoding") for answer in codings] == ["gzip", None, "gzip", None]
    assert [is_replay(answer) for answer in codings] == [False, True, True, True]


def test_an_answer_too_large_to_keep_is_given_once_and_not_run_again(pair: Fleet, two: list[httpx.Client]) -> None:
    headers, large = {KEY: new_key()}, row("x", "FP32", [1.5] * 600_000, [200_000, 3])
    first = two[0].post(ECHO_PATH, json=large, headers=headers)
    ran = sum(map(executions, pair.servers))
    for caller in two:
        gone = caller.post(ECHO_PATH, json=large, headers=headers)
        assert (gone.status_code, gone.headers["content-type"]) == (410, "application/problem+json")
        assert f"status 200 and {len(first.content)} bytes" in gone.json()["detail"]
    assert (first.status_code, sum(map(executions, pair.servers))) == (200, ran)


def test_an_error_of_the_model_is_an_answer(pair: Fleet, two: list[httpx.Client]) -> None:
    key, outside = new_key(), row("x", "INT64", [-9])
    first, *others = [caller.post(f"/v2/models/{LOOKUP}/infer", json=outside, headers={KEY: key}) for caller in two * 2]
    assert (first.status_code, first.headers[ATTEMPT]) == (400, "1")
    assert first.json()["type"] == "urn:onceserve:problem:invalid-request"
    for other in others:
        assert (other.status_code, other.content, is_replay(other)) == (400, first.content, True)
        assert other.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_answers_outlive_all_servers(fleet: Fleet, number: signal.Signals) -> None:
    key, former = new_key(), fleet.start()
    with callers(former) as [caller]:
        first = ask(caller, key)
    former.signal(number)
    former.wait()
    with callers(fleet.start()) as [caller]:
        again = ask(caller, key)
    assert (again.status_code, again.content, is_replay(again)) == (200, first.content, True)
    assert again.headers["idempotency-model-version"] == "r1"


def test_the_scope_keeps_keys_apart(fleet: Fleet) -> None:
    key = new_key()
    with callers(*[fleet.start("--idempotency-scope", scope) for scope in ("ns/a", "ns/b", "ns/a")]) as found:
        a, b, same = [ask(caller, key) for caller in found]
    assert [is_replay(answer) for answer in (a, b, same)] == [False, False, True]
    assert a.content == same.content != b.content


def test_dice_never_give_the_same_twice(two: list[httpx.Client]) -> None:
    thrown = {two[number % 2].post(PATH, json=dice.body()).content for number in range(50)}
    assert len(thrown) == 50
