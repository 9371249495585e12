import hashlib

import pytest

from onceserve_contract.verification import RUN_TIMEOUT, key, token
from onceserve_serving.settings import Settings

SECRET = b"secret"


def test_a_token_is_the_hmac_that_openssl_makes() -> None:
    # printf team-a/r1 | openssl dgst -sha256 -hmac secret
    assert token(SECRET, "team-a", "r1") == "728018a0da28fa552c896f0f9a7f0c0ea46f82f3236c7f1e9e1686f1a222c9d3"


@pytest.mark.parametrize("other", [(b"Secret", "team-a", "r1"), (SECRET, "team-b", "r1"), (SECRET, "team-a", "r2")])
def test_each_secret_namespace_and_revision_has_its_own_token(other: tuple[bytes, str, str]) -> None:
    assert token(*other) != token(SECRET, "team-a", "r1")


def test_a_key_is_the_hash_of_its_token() -> None:
    made = token(SECRET, "team-a", "r1")
    assert key(made) == hashlib.sha256(made.encode()).hexdigest()
    assert key(key(made)) != key(made)


def test_a_run_may_take_as_long_as_servers_give_it() -> None:
    assert Settings.model_fields["inference_deadline"].default == RUN_TIMEOUT
