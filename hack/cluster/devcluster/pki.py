"""Keys and certificates of one cluster."""

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from devcluster.files import write_atomically

LIFETIME = datetime.timedelta(days=365)
# Clocks of machines that share a state directory may differ a little.
BACKDATED = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class Pair:
    """A private key and its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def key_pem(self) -> bytes:
        """Return the key as PEM."""
        return encode_key(self.key)

    @property
    def certificate_pem(self) -> bytes:
        """Return the certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def encode_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as PEM, in the one form in which the API server takes its token keys."""
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def create_key() -> ec.EllipticCurvePrivateKey:
    """Make a private key."""
    return ec.generate_private_key(ec.SECP256R1())


def create_authority(name: str) -> Pair:
    """Make a certificate authority that signs itself."""
    key = create_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(subject, subject, key).add_extension(x509.BasicConstraints(ca=True, path_length=None), True)  # noqa: FBT003
    return Pair(key, builder.sign(key, hashes.SHA256()))


def issue(authority: Pair, name: str, groups: Sequence[str] = (), hosts: Sequence[str] = ()) -> Pair:
    """Sign a certificate for a user (its groups) who may also serve (its host names and addresses)."""
    key = create_key()
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
    builder = _builder(subject, authority.certificate.subject, key).add_extension(usage, critical=False)
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
    return Pair(key, builder.sign(authority.key, hashes.SHA256()))


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - BACKDATED,
        not_valid_after=now + LIFETIME,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


class Store:
    """A directory of pairs; what is there is kept, so that an interrupted `up` goes on with the same keys."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def certificate(self, name: str) -> Path:
        """Return the path of a certificate."""
        return self.root / f"{name}.crt"

    def key(self, name: str) -> Path:
        """Return the path of a private key."""
        return self.root / f"{name}.key"

    def authority(self, name: str) -> Pair:
        """Return the authority, made on first use."""
        if not self.certificate(name).exists():
            self._save(name, create_authority(name))
        return self._load(name)

    def pair(self, file: str, authority: str, user: str, groups: Sequence[str] = (), hosts: Sequence[str] = ()) -> Pair:
        """Return the pair kept under this file name, issued on first use."""
        if not self.certificate(file).exists():
            self._save(file, issue(self.authority(authority), user, groups, hosts))
        return self._load(file)

    def signing_key(self, name: str) -> Path:
        """Return the path of a bare key, made on first use."""
        path = self.key(name)
        if not path.exists():
            write_atomically(path, encode_key(create_key()), mode=0o600)
        return path

    def _save(self, name: str, pair: Pair) -> None:
        # The certificate last: its presence says that both are there.
        write_atomically(self.key(name), pair.key_pem, mode=0o600)
        write_atomically(self.certificate(name), pair.certificate_pem)

    def _load(self, name: str) -> Pair:
        key = serialization.load_pem_private_key(self.key(name).read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{self.key(name)} is not an elliptic-curve key")
        return Pair(key, x509.load_pem_x509_certificate(self.certificate(name).read_bytes()))
