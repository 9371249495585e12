import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceserve_serving.errors import InvalidKeyError
from onceserve_serving.idempotency import key

VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=key.LONGEST)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (b"abc", b"abc"),
        (b'"abc"', b"abc"),
        (b' \t"abc" ', b"abc"),
        (rb'"a\"b\\c"', rb'a"b\c'),
        (rb"a\b", rb"a\b"),
        (b'a"b', b'a"b'),
        (b"8e03978e-40d5-43dd-bc93-6894a57f9324", b"8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (b"~" * key.LONGEST, b"~" * key.LONGEST),
        (rb'"' + rb"\"" * key.LONGEST + b'"', b'"' * key.LONGEST),
    ],
)
def test_quoted_and_bare_are_the_same_key(given: bytes, meant: bytes) -> None:
    assert key.parse([given]) == meant


@given(VISIBLE)
def test_every_key_can_be_quoted(text: str) -> None:
    quoted = '"' + text.replace("\\", r"\\").replace('"', r"\"") + '"'
    assert key.parse([quoted.encode()]) == text.encode()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (b"", "has 0 characters"),
        (b'""', "has 0 characters"),
        (b"x" * 256, "has 256 characters"),
        (b'"' + b"x" * 256 + b'"', "has 256 characters"),
        (b'"abc', "has a wrong form"),
        (b'abc" d', "has a wrong form"),
        (b'"a"b"', "has a wrong form"),
        (rb'"a\b"', "has a wrong form"),
        (b'"a\\"', "has a wrong form"),
        (b'"a b"', "has a wrong form"),
        (b"a b", "has a wrong form"),
        (b'"a";v=1', "has a wrong form"),
        (b'"a", "b"', "has a wrong form"),
        ("schlüssel".encode(), "has a wrong form"),
        (b"a\x00b", "has a wrong form"),
        (b'"a\x7f"', "has a wrong form"),
    ],
)
def test_a_bad_key_is_refused_with_what_was_expected(given: bytes, told: str) -> None:
    with pytest.raises(InvalidKeyError, match=f"^Idempotency-Key {told}; expected 1 to 255 visible ASCII characters"):
        key.parse([given])


def test_one_header_or_none() -> None:
    assert key.parse([]) is None
    with pytest.raises(InvalidKeyError, match="is given 2 times; expected once"):
        key.parse([b"a", b"a"])


@given(st.lists(st.binary(max_size=3), min_size=1, max_size=4), st.lists(st.binary(max_size=3), min_size=1, max_size=4))
def test_no_two_scopes_have_the_same_record(one: list[bytes], other: list[bytes]) -> None:
    (*scope, found), (*other_scope, other_found) = one, other
    same = key.record_of(*scope, key=found) == key.record_of(*other_scope, key=other_found)
    assert same == (one == other)


def test_a_record_s_identity_is_that_of_version_1_for_ever() -> None:
    expected = hashlib.sha256(b"1:16:tenant5:scope7:POST /r1:k").digest()
    assert key.record_of(b"tenant", b"scope", b"POST /r", key=b"k") == expected
