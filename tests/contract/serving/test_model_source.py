import hashlib
import socket
from pathlib import Path

import pytest

from contract.serving.origin import Origin
from onceserve_contract.termination import FailureReason
from onceserve_serving import model_download
from onceserve_serving.errors import ModelUnavailableError
from onceserve_serving.model_source import Model, fetch

LIMIT = 10**6


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_download, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(model_download, "PATIENCE", 0.5)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def refused(uri: str, sha256: str = "", max_bytes: int = LIMIT) -> tuple[FailureReason, str]:
    with pytest.raises(ModelUnavailableError) as caught:
        fetch(uri, sha256=sha256, max_bytes=max_bytes)
    return caught.value.reason, str(caught.value)


@pytest.mark.parametrize("path", ["model.onnx", "model.onnx?signature=s", "moved", "flaky"])
def test_a_model_is_fetched_over_http(origin: Origin, path: str) -> None:
    digest = hashlib.sha256(origin.model).hexdigest()
    assert fetch(f"{origin.url}/{path}", sha256=digest, max_bytes=LIMIT) == Model(origin.model, digest)


def test_credentials_in_the_url_are_used(origin: Origin) -> None:
    url = origin.url.replace("//", "//ann:secret@")
    assert fetch(f"{url}/private", sha256="", max_bytes=LIMIT).content == origin.model


@pytest.mark.parametrize(
    ("path", "reason", "words"),
    [
        ("missing", FailureReason.NOT_FOUND, "/missing answers 404 Not Found"),
        ("forbidden", FailureReason.ACCESS_DENIED, "/forbidden answers 403 Forbidden"),
        ("private", FailureReason.ACCESS_DENIED, "/private answers 401 Unauthorized"),
        ("teapot", FailureReason.UNREACHABLE, "/teapot answers 418"),
        ("broken", FailureReason.UNREACHABLE, "cannot be fetched: the server answers 500 Internal Server Error"),
        ("truncated", FailureReason.UNREACHABLE, "cannot be fetched: peer closed connection"),
        ("loop", FailureReason.UNREACHABLE, "redirects"),
        ("astray", FailureReason.UNREACHABLE, "redirects to no http(s) URL"),
    ],
)
def test_a_failed_fetch_has_its_reason_and_words(origin: Origin, path: str, reason: FailureReason, words: str) -> None:
    found, message = refused(f"{origin.url}/{path}")
    assert found is reason
    assert words in message


def test_what_may_pass_is_tried_again_and_what_may_not_is_not(origin: Origin) -> None:
    refused(f"{origin.url}/broken")
    refused(f"{origin.url}/missing")
    assert origin.asked["/broken"] > 1
    assert origin.asked["/missing"] == 1


def test_secrets_of_a_url_are_never_shown(origin: Origin) -> None:
    url = origin.url.replace("//", "//ann:hidden@")
    _, message = refused(f"{url}/private?signature=hidden")
    assert "hidden" not in message
    assert f"{origin.url}/private?…" in message


def test_nobody_listening_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    reason, message = refused(f"http://127.0.0.1:{port}/m.onnx")
    assert reason is FailureReason.UNREACHABLE
    assert "Connection refused" in message


def test_a_model_above_the_limit_is_not_read_to_its_end(origin: Origin, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(origin.model)
    for uri in (f"{origin.url}/model.onnx", str(path)):
        reason, message = refused(uri, max_bytes=len(origin.model) - 1)
        assert reason is FailureReason.LOAD_FAILED
        assert "more than" in message
        assert fetch(uri, sha256="", max_bytes=len(origin.model)).content == origin.model


def test_another_file_than_the_approved_one_is_refused_with_both_digests(origin: Origin) -> None:
    reason, message = refused(f"{origin.url}/model.onnx", sha256="ab" * 32)
    assert reason is FailureReason.DIGEST_MISMATCH
    assert "ab" * 32 in message
    assert hashlib.sha256(origin.model).hexdigest() in message


def test_a_file_is_read_by_path_or_url(tmp_path: Path) -> None:
    path = tmp_path / "a model.onnx"
    path.write_bytes(b"model")
    for uri in (str(path), path.as_uri()):
        assert fetch(uri, sha256="", max_bytes=LIMIT).content == b"model"


def test_a_file_that_is_none_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "none", tmp_path / "file" / "none", tmp_path):
        reason, message = refused(str(path))
        assert reason is FailureReason.NOT_FOUND
        assert str(path) in message


def test_a_file_that_may_not_be_read_is_denied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def deny(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "m.onnx").touch()
    # Root may read everything, so that no real file is denied where tests run as root.
    monkeypatch.setattr(Path, "read_bytes", deny)
    reason, message = refused(str(tmp_path / "m.onnx"))
    assert reason is FailureReason.ACCESS_DENIED
    assert "may not read" in message
