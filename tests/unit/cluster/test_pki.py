import ipaddress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from devcluster import pki


@pytest.fixture
def authority() -> pki.Pair:
    return pki.create_authority("ca")


def test_an_authority_may_sign_and_signs_itself(authority: pki.Pair) -> None:
    constraints = authority.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value.ca
    authority.certificate.verify_directly_issued_by(authority.certificate)


def test_an_issued_certificate_is_signed_by_the_authority(authority: pki.Pair) -> None:
    pki.issue(authority, "user").certificate.verify_directly_issued_by(authority.certificate)


def test_user_and_groups_are_common_name_and_organizations(authority: pki.Pair) -> None:
    subject = pki.issue(authority, "system:node:node-1", ["system:nodes"]).certificate.subject
    assert [name.value for name in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["system:node:node-1"]
    assert [name.value for name in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == ["system:nodes"]


def test_hosts_are_names_or_addresses(authority: pki.Pair) -> None:
    pair = pki.issue(authority, "server", hosts=["localhost", "10.96.0.1"])
    names = pair.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("10.96.0.1")]


def test_a_store_keeps_what_it_made(tmp_path: Path) -> None:
    first = pki.Store(tmp_path).pair("admin", "ca", "kubernetes-admin")
    second = pki.Store(tmp_path).pair("admin", "ca", "kubernetes-admin")
    assert first.certificate == second.certificate
    assert (
        pki.Store(tmp_path).signing_key("tokens").read_bytes() == pki.Store(tmp_path).signing_key("tokens").read_bytes()
    )


def test_a_key_without_its_certificate_is_made_again(tmp_path: Path) -> None:
    store = pki.Store(tmp_path)
    store.pair("admin", "ca", "kubernetes-admin")
    store.certificate("admin").unlink()
    pair = store.pair("admin", "ca", "kubernetes-admin")
    assert pair.key.public_key() == pair.certificate.public_key()


def test_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    store = pki.Store(tmp_path)
    store.pair("admin", "ca", "kubernetes-admin")
    assert {
        path.stat().st_mode & 0o777 for path in (store.key("ca"), store.key("admin"), store.signing_key("tokens"))
    } == {0o600}


def test_token_keys_have_the_form_that_the_api_server_reads(tmp_path: Path) -> None:
    assert pki.Store(tmp_path).signing_key("tokens").read_text().startswith("-----BEGIN EC PRIVATE KEY-----")
