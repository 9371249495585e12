import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceserve_serving.idempotency.record import (
    Answer,
    Fingerprint,
    Outcome,
    Tombstone,
    UnreadableRecordError,
    decode,
    encode,
)

HEADERS = st.lists(st.tuples(st.binary(max_size=50), st.binary(max_size=300)), max_size=5).map(tuple)
STATUSES = st.integers(0, 65535)
OUTCOMES = st.builds(Outcome, STATUSES, HEADERS, st.binary(max_size=2000))
TOMBSTONES = st.builds(Tombstone, STATUSES, st.binary(min_size=32, max_size=32), st.integers(0, 2**64 - 1))


@given(OUTCOMES | TOMBSTONES)
def test_an_answer_comes_back_as_it_was(answer: Answer) -> None:
    assert decode(encode(answer)) == answer


def test_its_form_is_that_of_version_1_for_ever() -> None:
    assert encode(Outcome(200, ((b"a", b"b"),), b"hi")).hex() == "0100" + "00c80001" + "000100000001" + "6162" + "6869"
    assert encode(Tombstone(200, b"\xab" * 32, 5)).hex() == "0102" + "00c8" + "0000000000000005" + "ab" * 32


def test_what_is_large_is_compressed_where_it_pays() -> None:
    assert len(encode(Outcome(200, (), b"0.25, " * 1000))) < 100
    assert encode(Outcome(200, (), b"0.25"))[1] == 0


def test_what_does_not_shrink_is_kept_plain() -> None:
    body = bytes((n * n * 7919 >> 5) & 255 for n in range(600))
    assert len(encode(Outcome(200, (), body))) <= len(body) + 6


@pytest.mark.parametrize("blob", [b"", b"\x02\x00rest", b"\x00"])
def test_an_unknown_version_is_refused_by_its_number(blob: bytes) -> None:
    with pytest.raises(UnreadableRecordError, match=f"an answer of format {blob[:1].hex() or 'none'};? "):
        decode(blob)


@given(st.binary(max_size=100))
def test_damage_is_refused_and_never_crashes(rest: bytes) -> None:
    try:
        decode(b"\x01" + rest)
    except UnreadableRecordError as error:
        assert "damaged" in str(error)  # noqa: PT017  most of what is generated is refused, some is a small answer


@pytest.mark.parametrize("cut", [1, 2, 5, 9, 11])
def test_what_was_cut_off_is_refused(cut: int) -> None:
    with pytest.raises(UnreadableRecordError):
        decode(encode(Outcome(200, ((b"name", b"value"),), b""))[:-cut])


def mac(key: bytes, request: bytes) -> bytes:
    return key * 8 + request * 32


def test_fingerprints_are_compared_by_the_keys_that_both_have() -> None:
    old, both, new = (
        Fingerprint(mac(b"1", b"r")),
        Fingerprint(mac(b"2", b"r"), mac(b"1", b"r")),
        Fingerprint(mac(b"2", b"r")),
    )
    for one, other in ((old, old), (old, both), (both, old), (both, both), (both, new), (new, both)):
        assert one.is_of(other)
    assert not old.is_of(Fingerprint(mac(b"2", b"x"), mac(b"1", b"x")))
    assert not both.is_of(Fingerprint(mac(b"1", b"x")))
    with pytest.raises(UnreadableRecordError, match="a secret that this server does not have"):
        old.is_of(new)


def test_fingerprints_are_packed_and_parsed() -> None:
    for fingerprint in (Fingerprint(mac(b"1", b"r")), Fingerprint(mac(b"2", b"r"), mac(b"1", b"r"))):
        assert Fingerprint.parse(fingerprint.packed) == fingerprint
