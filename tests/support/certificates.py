"""Certificates for tests: an authority and what it signs."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, PEM."""

    cert: bytes
    key: bytes

    def write(self, directory: Path, name: str = "tls") -> tuple[Path, Path]:
        """Write them as a Secret of type kubernetes.io/tls has them; return where."""
        directory.mkdir(exist_ok=True)
        cert, key = directory / f"{name}.crt", directory / f"{name}.key"
        cert.write_bytes(self.cert)
        key.write_bytes(self.key)
        return cert, key

    @property
    def serial(self) -> str:
        """Return the serial number in hex, as Python's ssl shows a peer's."""
        number = x509.load_pem_x509_certificate(self.cert).serial_number
        return number.to_bytes((number.bit_length() + 7) // 8).hex().upper()


class Authority:
    """Signs certificates for loopback addresses, or for a host."""

    def __init__(self, name: str = "test authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        certificate = _builder(self._name, self._name, self._key).add_extension(x509.BasicConstraints(True, None), True)
        self.cert = certificate.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def issue(self, name: str = "localhost", passphrase: bytes = b"", host: str = "localhost") -> Pair:
        """Return a new certificate that serves and asks."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        certificate = (
            _builder(_name(name), self._name, key)
            .add_extension(x509.SubjectAlternativeName(names), False)
            .sign(self._key, hashes.SHA256())
        )
        locked = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)
        return Pair(certificate.public_bytes(Encoding.PEM), pem)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
    )
