"""draft-ietf-httpapi-idempotency-key-header, seen from a client: a test for each of its sentences on servers."""

from concurrent.futures import ThreadPoolExecutor

from conformance.conftest import Asker


def test_the_key_is_a_structured_string(asker: Asker, key: str) -> None:
    assert asker.ask(f'"{key}"').status_code == 200


def test_a_request_that_was_not_seen_before_is_processed_normally(asker: Asker, key: str) -> None:
    plain, keyed = asker.ask(), asker.ask(f'"{key}"')
    assert plain.status_code in (200, 400)
    if plain.status_code == 200:
        assert keyed.json().keys() == plain.json().keys()


def test_a_missing_key_is_a_bad_request_where_one_is_required_and_else_none(asker: Asker) -> None:
    plain = asker.ask()
    assert plain.status_code == 200 or (plain.status_code == 400 and is_problem(plain.headers["content-type"]))


def test_a_retry_after_completion_gets_the_result_of_the_first(asker: Asker, key: str) -> None:
    first, again = asker.ask(f'"{key}"'), asker.ask(f'"{key}"')
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["content-type"] == first.headers["content-type"]


def test_a_key_reused_with_another_payload_is_unprocessable(asker: Asker, key: str) -> None:
    first, other = asker.ask(f'"{key}"'), asker.ask(f'"{key}"', value=1)
    assert (first.status_code, other.status_code) == (200, 422)
    assert is_problem(other.headers["content-type"])
    assert {"type", "title", "detail"} <= other.json().keys()


def test_a_request_while_the_first_is_processed_conflicts_or_gets_its_result(asker: Asker, key: str) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: asker.ask(f'"{key}"'), range(32)))
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert len({answer.content for answer in answers if answer.status_code == 200}) == 1
    assert all(is_problem(answer.headers["content-type"]) for answer in answers if answer.status_code == 409)


def test_another_key_is_another_request(asker: Asker, key: str) -> None:
    assert asker.ask(f'"{key}-a"').status_code == asker.ask(f'"{key}-b"', value=1).status_code == 200


def test_a_value_that_is_no_string_is_a_bad_request(asker: Asker) -> None:
    for value in ('"open', '"a" "b"', '"caf\u00e9"', "two words"):
        refused = asker.ask(value)
        assert refused.status_code == 400
        assert is_problem(refused.headers["content-type"])


def is_problem(media_type: str) -> bool:
    """Tell whether a body is a problem of RFC 9457."""
    return media_type.partition(";")[0] == "application/problem+json"
