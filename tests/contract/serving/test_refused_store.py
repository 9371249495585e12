"""A store that is not one to rely on ends the server at its start, and the pod's status says why."""

import pytest

from contract.serving.conftest import EXAMPLE, Serve
from onceserve_contract.environment import IDEMPOTENCY_STORE_TYPE
from support.databases import Postgresql, Redis


def refusal(serve: Serve, store: str, **environment: str) -> dict[str, str]:
    server = serve(EXAMPLE / "model.onnx", "--idempotency-store", store, **environment)
    assert server.wait() == 2, server.log()
    return server.termination()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://s3cret@host/db", "the store's URL begins with none of memory:, sqlite:, redis:"),
        ("redis://:s3cret@host:port", "the store's URL is not a URL"),
    ],
)
def test_a_url_that_means_no_store_is_told_without_its_password(serve: Serve, url: str, words: str) -> None:
    message = refusal(serve, url)
    assert message["reason"] == "StoreRefused"
    assert words in message["message"]
    assert "s3cret" not in message["message"]


def test_a_url_of_another_type_than_the_resource_names_ends_the_server_in_words(serve: Serve) -> None:
    message = refusal(serve, "memory:", **{IDEMPOTENCY_STORE_TYPE: "redis"})
    assert message["reason"] == "StoreRefused"
    assert "the store is to be of the type redis, and its URL begins with memory:" in message["message"]


def test_a_wrong_password_ends_the_server_in_words(serve: Serve) -> None:
    with Redis("--requirepass", "right") as server:
        message = refusal(serve, server.url.replace("//", "//:wrong@"))
    assert message["reason"] == "StoreRefused"
    assert "invalid username-password pair" in message["message"]


def test_a_database_that_is_not_there_ends_the_server_in_words(serve: Serve) -> None:
    with Postgresql() as server:
        message = refusal(serve, f"{server.url}-of-others")
    assert message["reason"] == "StoreRefused"
    assert 'database "onceserve-of-others" does not exist' in message["message"]


def test_a_role_without_the_rights_ends_the_server_in_words(serve: Serve) -> None:
    with Postgresql() as server:
        server.execute("CREATE ROLE guest LOGIN")
        message = refusal(serve, server.url.replace("onceserve@", "guest@"))
    assert message["reason"] == "StoreRefused"
    assert "permission denied for schema public; a role that owns the tables onceserve_…" in message["message"]


def test_a_redis_that_forgets_ends_the_server_in_words(serve: Serve) -> None:
    with Redis("--maxmemory-policy", "allkeys-lru") as server:
        message = refusal(serve, server.url)
    assert message["reason"] == "StoreRefused"
    assert "maxmemory-policy is allkeys-lru, which forgets answers; noeviction was expected" in message["message"]
