import re
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from onceserve_serving import tls
from onceserve_serving.errors import InvalidSettingsError
from onceserve_serving.tls import Files, Tls
from support.certificates import Authority, Pair

AUTHORITY = Authority()
FIRST, SECOND = AUTHORITY.issue(), AUTHORITY.issue()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(*FIRST.write(tmp_path))


def served(context: ssl.SSLContext, client_pair: Path | None = None, authority: Authority = AUTHORITY) -> str:
    """Do a handshake in memory; return the serial number of the certificate that the client saw."""
    client_context = ssl.create_default_context(cadata=authority.cert.decode())
    if client_pair is not None:
        client_context.load_cert_chain(client_pair.with_suffix(".crt"), client_pair.with_suffix(".key"))
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(down, up, server_hostname="localhost")
    server = context.wrap_bio(up, down, server_side=True)
    steps: list[Callable[[], None]] = [client.do_handshake, server.do_handshake]
    while steps:
        steps = [step for step in steps if wants_more(step)]
    found = client.getpeercert() or {}
    return str(found["serialNumber"])


def wants_more(step: Callable[[], None]) -> bool:
    try:
        step()
    except ssl.SSLWantReadError:
        return True
    return False


def test_each_handshake_is_done_with_what_was_read_last(files: Files, tmp_path: Path) -> None:
    source = Tls(files)
    listener = source.http_context()
    assert served(listener) == FIRST.serial
    SECOND.write(tmp_path)
    assert served(listener) == FIRST.serial
    source.reload()
    assert served(listener) == SECOND.serial


def test_a_pair_that_does_not_fit_leaves_the_former(files: Files, tmp_path: Path) -> None:
    source = Tls(files)
    (tmp_path / "tls.crt").write_bytes(SECOND.cert)
    with pytest.raises(InvalidSettingsError, match=r"tls\.key is not the key of the certificate"):
        source.reload()
    assert served(source.http_context()) == FIRST.serial


def test_nothing_older_than_tls_1_2_is_spoken(files: Files) -> None:
    context = Tls(files).http_context()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_clients_are_asked_for_a_certificate_of_the_present_authorities(files: Files, tmp_path: Path) -> None:
    ca = tmp_path / "ca.crt"
    ca.write_bytes(AUTHORITY.cert)
    source = Tls(Files(files.cert, files.key, ca))
    listener = source.http_context()
    AUTHORITY.issue("ann").write(tmp_path, "ann")
    assert served(listener, tmp_path / "ann") == FIRST.serial
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        served(listener)
    ca.write_bytes(Authority("another").cert)
    source.reload()
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        served(listener, tmp_path / "ann")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda files: files.cert.unlink(), "--tls-cert (or ONCESERVE_TLS_CERT): there is no file"),
        (lambda files: files.key.unlink(), "--tls-key (or ONCESERVE_TLS_KEY): there is no file"),
        (lambda files: files.client_ca.unlink(), "--tls-client-ca (or ONCESERVE_TLS_CLIENT_CA): there is no file"),
        (lambda files: files.cert.write_text("x"), "are not a certificate and its key in PEM form"),
        (lambda files: files.key.write_bytes(SECOND.key), "tls.key is not the key of the certificate"),
        (lambda files: files.client_ca.write_text("x"), "ca.crt holds no certificate in PEM form"),
        (
            lambda files: files.key.write_bytes(AUTHORITY.issue(passphrase=b"pw").key),
            "tls.key is locked with a passphrase: expected a key without one",
        ),
    ],
)
def test_each_bad_file_is_named(files: Files, tmp_path: Path, spoil: Callable[[Files], None], words: str) -> None:
    (tmp_path / "ca.crt").write_bytes(AUTHORITY.cert)
    given = Files(files.cert, files.key, tmp_path / "ca.crt")
    spoil(given)
    with pytest.raises(InvalidSettingsError, match=re.escape(words)):
        Tls(given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((Path("c"), None, None), "--tls-key (or ONCESERVE_TLS_KEY): expected beside --tls-cert"),
        ((None, Path("k"), None), "--tls-cert (or ONCESERVE_TLS_CERT): expected beside --tls-key"),
        ((None, None, Path("a")), "--tls-cert (or ONCESERVE_TLS_CERT): expected beside --tls-key"),
    ],
)
def test_half_a_setting_is_none(given: tuple[Path | None, Path | None, Path | None], words: str) -> None:
    with pytest.raises(InvalidSettingsError, match=re.escape(words)):
        tls.from_settings(*given)


def test_no_setting_is_no_tls() -> None:
    assert tls.from_settings(None, None, None) is None


def test_a_pair_of_another_authority_is_not_trusted(tmp_path: Path) -> None:
    pair: Pair = Authority("another").issue()
    with pytest.raises(ssl.SSLCertVerificationError):
        served(Tls(Files(*pair.write(tmp_path))).http_context())
