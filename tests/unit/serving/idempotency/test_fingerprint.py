import hmac
import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceserve_serving.errors import InvalidSettingsError
from onceserve_serving.idempotency import fingerprint
from onceserve_serving.idempotency.fingerprint import NO_SECRET, Fingerprinter, Mac
from onceserve_serving.idempotency.record import FINGERPRINT_BYTES, Fingerprint, UnreadableRecordError

_OPTION = re.escape(fingerprint.OPTION)
OLD, NEW = b"the old secret, 1", b"the new secret, 2"


@given(st.binary(max_size=8), st.binary(max_size=8), st.binary(max_size=8), st.binary(max_size=8))
def test_no_two_requests_have_the_same(head: bytes, body: bytes, other_head: bytes, other_body: bytes) -> None:
    maker = Fingerprinter()
    assert (maker.of(head, body) == maker.of(other_head, other_body)) == ((head, body) == (other_head, other_body))


@pytest.mark.parametrize("body", [b"content", bytearray(b"content"), memoryview(b"content")])
def test_every_kind_of_body_will_do(body: bytes | bytearray | memoryview) -> None:
    assert Fingerprinter().of(b"head", body) == Fingerprinter().of(b"head", b"content")


def test_it_hides_what_was_asked_from_who_does_not_have_the_secret() -> None:
    of_both = [Fingerprinter((secret,)).of(b"head", b"body") for secret in (OLD, NEW)]
    assert not {part for one in of_both for part in (one.current[:8], one.current[8:])} & {b"", OLD, NEW}
    assert of_both[0].current[8:] != of_both[1].current[8:]


def test_while_secrets_are_rotated_nobody_is_taken_for_another() -> None:
    """First all have (old, new) or (new, old), then new alone: each step meets the one before it, both ways."""
    steps = [Fingerprinter(secrets) for secrets in ((OLD,), (OLD, NEW), (NEW, OLD), (NEW,))]
    for here, there in itertools.pairwise(steps):
        for one, other in ((here, there), (there, here)):
            assert one.of(b"head", b"body").is_of(other.of(b"head", b"body"))
            assert not one.of(b"head", b"body").is_of(other.of(b"head", b"else"))


def test_without_a_secret_in_common_nothing_is_judged() -> None:
    with pytest.raises(UnreadableRecordError, match="a secret that this server does not have"):
        Fingerprinter((OLD,)).of(b"", b"").is_of(Fingerprinter((NEW,)).of(b"", b""))


def test_it_is_packed_with_the_key_s_id() -> None:
    one, two = Fingerprinter((OLD,)).of(b"", b""), Fingerprinter((NEW, OLD)).of(b"", b"")
    assert (len(one.packed), len(two.packed)) == (FINGERPRINT_BYTES, 2 * FINGERPRINT_BYTES)
    assert two.other == one.current
    assert Fingerprint.parse(two.packed) == two


def test_a_file_has_one_secret_or_the_one_before_it_too(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("0123456789abcdef\n")
    first = fingerprint.from_file(file).of(b"", b"")
    file.write_text("fedcba9876543210\n0123456789abcdef\n")
    second = fingerprint.from_file(file).of(b"", b"")
    assert second.other == first.current != second.current
    assert fingerprint.from_file(None).of(b"", b"") == Fingerprinter((NO_SECRET,)).of(b"", b"")


@pytest.mark.parametrize("content", ["", " \n", "0123456789abcde", "0123456789abcdef\nshort", "0123456789abcdef\n" * 3])
def test_a_file_of_another_form_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "secret"
    file.write_text(content)
    with pytest.raises(InvalidSettingsError, match=f"^{_OPTION}: expected in {file} one secret, or") as refused:
        fingerprint.from_file(file)
    assert "0123456789" not in str(refused.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettingsError, match=f"^{_OPTION}: cannot read {tmp_path}/none: No such file"):
        fingerprint.from_file(tmp_path / "none")


@given(st.binary(max_size=200), st.lists(st.binary(max_size=200)))
def test_the_code_is_hmac_sha256(secret: bytes, parts: list[bytes]) -> None:
    assert Mac(secret).of(*parts) == hmac.digest(secret, b"".join(parts), "sha256")
