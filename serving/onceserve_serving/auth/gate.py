"""Who calls: API keys from a file or a mounted Secret, asked of every request."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from onceserve_contract import http
from onceserve_serving.auth import keys
from onceserve_serving.auth.keys import Entry, KeySet
from onceserve_serving.errors import InvalidSettingsError, UnauthenticatedError
from onceserve_serving.watch import Mark, mark_of

DOCS_PATH: Final = "/docs"

OPEN_PATHS: Final = frozenset({http.LIVE_PATH, http.READY_PATH, http.METRICS_PATH, DOCS_PATH})
"""What a kubelet and a Prometheus ask, which have no key, and the page on which people enter theirs. Whatever else
there is, or will be, takes one."""

OPEN_RPCS: Final = frozenset(
    {
        "/inference.GRPCInferenceService/ServerLive",
        "/inference.GRPCInferenceService/ServerReady",
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/List",
        "/grpc.health.v1.Health/Watch",
    }
)
"""The same in gRPC."""

KEY_HEADER: Final = b"x-api-key"
AUTHORIZATION: Final = b"authorization"
BEARER: Final = b"bearer"

OPTION: Final = "--api-keys (or ONCESERVE_API_KEYS)"


class Gate:
    """Takes calls that carry a known key. Reads its files again when told to; requests in flight notice nothing."""

    name = "api_keys"

    def __init__(self, path: Path) -> None:
        """Read the keys; raises InvalidSettingsError that names the file and the line, never their content."""
        self.paths = (path,)
        self.mark: Mark = None
        self._keys = KeySet(())
        self.reload()

    def reload(self) -> None:
        """Read the keys again; raises InvalidSettingsError and keeps the present ones if they are of no use."""
        self.mark = mark_of(self.paths)
        self._keys = KeySet(read(self.paths[0]))

    def __len__(self) -> int:
        return len(self._keys)

    def tenant(self, headers: Mapping[bytes, bytes]) -> str:
        """Return the owner of the key in a request's headers (names in lower case); raises UnauthenticatedError."""
        key = _key_in(headers)
        if key is None:
            raise UnauthenticatedError("this takes an API key: send it as Authorization: Bearer KEY or X-API-Key: KEY")
        owner = self._keys.owner_of(key)
        if owner is None:
            raise UnauthenticatedError("the API key is not one that is taken here")
        return owner


def metadata_headers(metadata: Iterable[tuple[str, str | bytes]]) -> dict[bytes, bytes]:
    """Return a gRPC call's metadata as headers."""
    return {name.encode(): value if isinstance(value, bytes) else value.encode() for name, value in metadata}


def _key_in(headers: Mapping[bytes, bytes]) -> bytes | None:
    # Where a gateway uses Authorization for itself, the key comes in the header that is ours alone.
    key = headers.get(KEY_HEADER)
    if key is not None:
        return key.strip()
    scheme, _, given = headers.get(AUTHORIZATION, b"").partition(b" ")
    return given.strip() if scheme.lower() == BEARER else None


def read(path: Path) -> list[Entry]:
    """Return the keys of a file of lines, or of a directory whose files are named after the keys' owners.

    Raises InvalidSettingsError.
    """
    try:
        entries = _read_directory(path) if path.is_dir() else _read_file(path, "")
    except FileNotFoundError:
        raise InvalidSettingsError(f"{OPTION}: there is no {path}") from None
    except OSError as error:
        raise InvalidSettingsError(f"{OPTION}: cannot read {path}: {error.strerror}") from error
    if not entries:
        raise InvalidSettingsError(f"{OPTION}: {path} holds no key, so that nobody could call")
    _check_owners(path, entries)
    return entries


def _read_directory(path: Path) -> list[Entry]:
    # A mounted Secret has its real files behind hidden links.
    files = [file for file in sorted(path.iterdir()) if not file.name.startswith(".") and file.is_file()]
    return [entry for file in files for entry in _read_file(file, file.name)]


def _read_file(path: Path, owner: str) -> list[Entry]:
    try:
        return keys.parse(path.read_text(encoding="utf-8"), owner)
    except UnicodeDecodeError:
        raise InvalidSettingsError(f"{OPTION}: {path} is not text") from None
    except keys.KeyLineError as error:
        raise InvalidSettingsError(f"{OPTION}: {path}, {error}") from None


def _check_owners(path: Path, entries: Iterable[Entry]) -> None:
    owners: dict[bytes, str] = {}
    for owner, digest in entries:
        if owners.setdefault(digest, owner) != owner:
            raise InvalidSettingsError(f"{OPTION}: {path} gives one key to both {owners[digest]!r} and {owner!r}")
