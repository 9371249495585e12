"""What OnceServe promises beyond the draft (docs/guarantees.md), seen from a client."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from conformance.conftest import KEY, Asker

REPLAYED = "idempotent-replayed"
ATTEMPT = "idempotency-attempt"


def test_all_answers_are_the_same_bytes_over_any_connection(asker: Asker, url: str, key: str) -> None:
    first = asker.ask(key)
    for _ in range(10):
        again = httpx.post(url + asker.path, json=asker.body(), headers={KEY: key}, trust_env=False)
        assert (again.status_code, again.content) == (first.status_code, first.content)
        assert again.headers["content-type"] == first.headers["content-type"]


def test_a_replay_says_so_and_a_first_answer_its_attempt(asker: Asker, key: str) -> None:
    first, again = asker.ask(key), asker.ask(key)
    assert int(first.headers[ATTEMPT]) >= 1
    assert REPLAYED not in first.headers
    assert again.headers[REPLAYED] == "true"
    assert ATTEMPT not in again.headers


def test_of_many_at_once_one_is_the_first(asker: Asker, key: str) -> None:
    with ThreadPoolExecutor(32) as pool:
        answers = [answer for answer in pool.map(lambda _: asker.ask(key), range(64)) if answer.status_code == 200]
    assert sum(REPLAYED not in answer.headers for answer in answers) == 1
    assert len({answer.content for answer in answers}) == 1


def test_who_is_told_to_come_again_is_told_when(asker: Asker, key: str) -> None:
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: asker.ask(key), range(64)))
    for answer in answers:
        assert answer.status_code == 200 or int(answer.headers["retry-after"]) >= 1


def test_quoted_and_bare_are_the_same_key(asker: Asker, key: str) -> None:
    first, again = asker.ask(f'"{key}"'), asker.ask(key)
    assert (again.content, again.headers[REPLAYED]) == (first.content, "true")


def test_a_key_of_255_characters_is_taken(asker: Asker, key: str) -> None:
    assert asker.ask(key.ljust(255, "~")).status_code == 200


@pytest.mark.parametrize("keys", [[""], ['""'], ["a" * 256], ["a b"], ["a", "a"]], ids=repr)
def test_what_is_no_key_is_refused(asker: Asker, keys: Sequence[str]) -> None:
    assert asker.ask(*keys).status_code == 400


def test_another_query_is_another_request(asker: Asker, key: str) -> None:
    assert asker.ask(key).status_code == 200
    assert asker.ask(key, query="?other=1").status_code == 422


def test_a_refused_reuse_leaves_the_answer_as_it_was(asker: Asker, key: str) -> None:
    first, other, again = asker.ask(key), asker.ask(key, value=1), asker.ask(key)
    assert other.status_code == 422
    assert (again.status_code, again.content) == (first.status_code, first.content)


def test_what_does_not_fit_the_model_uses_no_key_up(asker: Asker, key: str) -> None:
    wrong = asker.client.post(asker.path, json={"inputs": []}, headers={KEY: key})
    right = asker.ask(key)
    assert (wrong.status_code, right.status_code) == (400, 200)
    assert REPLAYED not in right.headers


def test_who_leaves_may_come_again(asker: Asker, url: str, key: str) -> None:
    impatient = httpx.Timeout(30, read=1e-6)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(url + asker.path, json=asker.body(), headers={KEY: key}, timeout=impatient, trust_env=False)
    first, again = asker.ask(key), asker.ask(key)
    assert first.status_code == again.status_code == 200
    assert (again.content, again.headers[REPLAYED]) == (first.content, "true")


def test_requests_without_a_key_are_never_replays(asker: Asker) -> None:
    for answer in (asker.ask(), asker.ask()):
        assert REPLAYED not in answer.headers
