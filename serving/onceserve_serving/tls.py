"""TLS by certificate files that may be renewed while the server runs."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from onceserve_serving.errors import InvalidSettingsError
from onceserve_serving.watch import Mark, mark_of

if TYPE_CHECKING:
    import grpc

CERT: Final = "--tls-cert (or ONCESERVE_TLS_CERT)"
KEY: Final = "--tls-key (or ONCESERVE_TLS_KEY)"
CLIENT_CA: Final = "--tls-client-ca (or ONCESERVE_TLS_CLIENT_CA)"


@dataclass(frozen=True, slots=True)
class Files:
    """The certificate chain, its key, and the authorities whose clients are let in (None: any client); all PEM."""

    cert: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the files held at one moment: a context for HTTP, the bytes for gRPC."""

    context: ssl.SSLContext
    cert: bytes
    key: bytes
    client_ca: bytes | None


class Tls:
    """The certificate that new connections get; connections that are open keep theirs."""

    name = "tls"

    def __init__(self, files: Files) -> None:
        """Read the files; raises InvalidSettingsError that says which of them is wrong and how."""
        self._files = files
        self.paths = tuple(path for path in (files.cert, files.key, files.client_ca) if path)
        self.mark: Mark = None
        self.reload()

    def reload(self) -> None:
        """Read the files again; raises InvalidSettingsError and keeps the present certificate if they are of no use."""
        self.mark = mark_of(self.paths)
        loaded = _load(self._files)
        if mark_of(self.paths) != self.mark:
            raise InvalidSettingsError(f"{CERT}: the files changed while they were read")
        self._loaded = loaded

    def http_context(self) -> ssl.SSLContext:
        """Return a context for a listener; each of its handshakes is done with what was read last."""
        context = self._loaded.context

        # Unlike loading a new chain into the listener's context, it also takes authorities away.
        def hand_over(connection: ssl.SSLSocket | ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
            connection.context = self._loaded.context

        context.sni_callback = hand_over
        return context

    def grpc_credentials(self) -> "grpc.ServerCredentials":
        """Return credentials for a gRPC port; each of its handshakes is done with what was read last."""
        import grpc  # noqa: PLC0415

        given: list[Loaded] = [self._loaded]

        def newest() -> "grpc.ServerCertificateConfiguration | None":
            loaded = self._loaded
            if loaded is given[0]:
                return None
            given[0] = loaded
            return _grpc_configuration(loaded)

        return grpc.dynamic_ssl_server_credentials(
            _grpc_configuration(given[0]), newest, require_client_authentication=self._files.client_ca is not None
        )


def from_settings(cert: Path | None, key: Path | None, client_ca: Path | None) -> Tls | None:
    """Return the TLS that the settings ask for, or None for none; raises InvalidSettingsError."""
    if cert is not None and key is not None:
        return Tls(Files(cert, key, client_ca))
    if cert is not None:
        raise InvalidSettingsError(f"{KEY}: expected beside --tls-cert, and not given")
    if key is not None or client_ca is not None:
        raise InvalidSettingsError(f"{CERT}: expected beside --tls-key and --tls-client-ca, and not given")
    return None


def _grpc_configuration(loaded: Loaded) -> "grpc.ServerCertificateConfiguration":
    import grpc  # noqa: PLC0415

    return grpc.ssl_server_certificate_configuration([(loaded.key, loaded.cert)], loaded.client_ca)


def _load(files: Files) -> Loaded:
    cert, key = _read(files.cert, CERT), _read(files.key, KEY)
    client_ca = _read(files.client_ca, CLIENT_CA) if files.client_ca else None
    if b"ENCRYPTED" in key:
        raise InvalidSettingsError(f"{KEY}: {files.key} is locked with a passphrase: expected a key without one")
    return Loaded(_context(files), cert, key, client_ca)


def _read(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InvalidSettingsError(f"{option}: there is no file {path}") from None
    except OSError as error:
        raise InvalidSettingsError(f"{option}: cannot read {path}: {error.strerror}") from error


def _context(files: Files) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    _load_chain(context, files)
    if files.client_ca is not None:
        _load_client_ca(context, files.client_ca)
    return context


def _load_chain(context: ssl.SSLContext, files: Files) -> None:
    try:
        context.load_cert_chain(files.cert, files.key)
    except ssl.SSLError as error:
        raise InvalidSettingsError(_chain_complaint(files, error)) from error
    except OSError as error:
        raise InvalidSettingsError(f"{CERT}: cannot read {files.cert} or {files.key}: {error.strerror}") from error


def _chain_complaint(files: Files, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{KEY}: {files.key} is not the key of the certificate {files.cert}"
    return f"{CERT}: {files.cert} and {files.key} are not a certificate and its key in PEM form ({error.reason})"


def _load_client_ca(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(path)
    except (ssl.SSLError, OSError) as error:
        raise InvalidSettingsError(f"{CLIENT_CA}: {path} holds no certificate in PEM form") from error
    context.verify_mode = ssl.CERT_REQUIRED
    # A resumed session would not be checked against authorities that have changed since.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
