"""From a model's URI to its bytes, verified."""

import hashlib
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from onceserve_contract.termination import FailureReason
from onceserve_serving.errors import ModelUnavailableError, too_large
from onceserve_serving.settings import uri_scheme


class Model(NamedTuple):
    """A model's bytes and their SHA-256 in hex."""

    content: bytes
    sha256: str


def fetch(uri: str, *, sha256: str, max_bytes: int) -> Model:
    """Return the model at a path, file://, http:// or https:// URI; blocks for some seconds at worst.

    An empty `sha256` takes any content. Raises ModelUnavailableError with the reason.
    """
    content = _download(uri, max_bytes) if uri_scheme(uri) in {"http", "https"} else _read(_path(uri), max_bytes)
    digest = hashlib.sha256(content).hexdigest()
    if sha256 and digest != sha256:
        message = f"the model's SHA-256 is {digest}, expected is {sha256}: it is not the file that was approved"
        raise ModelUnavailableError(FailureReason.DIGEST_MISMATCH, message)
    return Model(content, digest)


def _download(uri: str, max_bytes: int) -> bytes:
    # The HTTP client costs a tenth of a second to import, which a start from a file does not pay.
    from onceserve_serving import model_download  # noqa: PLC0415

    return model_download.download(uri, max_bytes)


def _path(uri: str) -> Path:
    return Path(unquote(urlsplit(uri).path) if uri_scheme(uri) else uri)


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        if path.stat().st_size > max_bytes:
            raise too_large(max_bytes)
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise ModelUnavailableError(FailureReason.NOT_FOUND, f"there is no file {path}") from None
    except IsADirectoryError:
        raise ModelUnavailableError(FailureReason.NOT_FOUND, f"{path} is a directory; name the file in it") from None
    except PermissionError:
        raise ModelUnavailableError(FailureReason.ACCESS_DENIED, f"this user may not read {path}") from None
    except (OSError, ValueError) as error:
        raise ModelUnavailableError(FailureReason.LOAD_FAILED, f"cannot read {path}: {error}") from error
