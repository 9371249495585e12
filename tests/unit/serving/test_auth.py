import hashlib
import hmac
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from onceserve_serving.auth import gate, keys
from onceserve_serving.auth.gate import Gate
from onceserve_serving.auth.keys import Entry, KeyLineError
from onceserve_serving.errors import InvalidSettingsError, UnauthenticatedError
from onceserve_serving.main import parser
from support.secrets import MountedSecret

ANN, BEN = keys.new_key(), keys.new_key()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.txt"
    path.write_text(f"# callers\n\n{keys.line_of(ANN, 'ann')}\n  {keys.line_of(BEN, 'ben@x.example')}  \n")
    return path


def bearer(key: str) -> dict[bytes, bytes]:
    return {b"authorization": b"Bearer " + key.encode()}


def test_a_key_is_long_and_random_and_its_line_has_no_more_than_its_hash() -> None:
    made = {keys.new_key() for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch(r"onceserve_[A-Za-z0-9_-]{43}", key) for key in made)
    assert keys.line_of("abc", "ann") == f"ann: sha256:{hashlib.sha256(b'abc').hexdigest()}"
    assert keys.line_of("abc") == f"sha256:{hashlib.sha256(b'abc').hexdigest()}"


def test_lines_are_parsed_with_or_without_an_owner() -> None:
    digest = "AB" * 32
    assert keys.parse(f"sha256:{digest}\nben :  sha256:{digest}\n", "ann") == [
        Entry("ann", bytes.fromhex(digest)),
        Entry("ben", bytes.fromhex(digest)),
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ann: sha256:abc", "line 2: expected OWNER: sha256:HASH"),
        (f"ann: md5:{'0' * 64}", "line 2: expected OWNER: sha256:HASH"),
        pytest.param(f"ann: {ANN}", "line 2: expected OWNER: sha256:HASH", id="a key itself"),
        (f"sha256:{'0' * 64}", "line 2: names no owner"),
        (f"a b: sha256:{'0' * 64}", "line 2: an owner is"),
        (f"{'a' * 254}: sha256:{'0' * 64}", "line 2: an owner is"),
    ],
)
def test_a_bad_line_is_named_by_number_and_never_quoted(line: str, words: str) -> None:
    with pytest.raises(KeyLineError) as caught:
        keys.parse(f"# no key\n{line}\n")
    assert words in str(caught.value)
    assert line not in str(caught.value)
    assert ANN not in str(caught.value)


def test_keys_are_taken_in_either_header(file: Path) -> None:
    door = Gate(file)
    assert len(door) == 2
    assert door.tenant(bearer(ANN)) == "ann"
    assert door.tenant({b"authorization": b"bEARER  " + BEN.encode()}) == "ben@x.example"
    assert door.tenant({b"x-api-key": BEN.encode()}) == "ben@x.example"
    assert door.tenant({b"authorization": b"Basic dXNlcjpwdw==", b"x-api-key": ANN.encode()}) == "ann"
    assert door.tenant(gate.metadata_headers([("x-api-key", ANN), ("trace-bin", b"\0")])) == "ann"


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({}, "send it as Authorization: Bearer KEY or X-API-Key: KEY"),
        ({b"authorization": ANN.encode()}, "send it as"),
        ({b"authorization": b"Basic " + ANN.encode()}, "send it as"),
        ({b"authorization": b"Bearer"}, "not one that is taken"),
        ({b"authorization": b"Bearer \xff\xfe"}, "not one that is taken"),
        ({b"x-api-key": b""}, "not one that is taken"),
        (bearer(ANN + "x"), "not one that is taken"),
        (bearer(ANN.upper()), "not one that is taken"),
        (bearer(hashlib.sha256(ANN.encode()).hexdigest()), "not one that is taken"),
        ({**bearer(ANN), b"x-api-key": b"other"}, "not one that is taken"),
    ],
)
def test_all_else_is_refused_without_telling_what_was_sent(file: Path, headers: dict[bytes, bytes], words: str) -> None:
    with pytest.raises(UnauthenticatedError, match=words) as caught:
        Gate(file).tenant(headers)
    assert ANN not in str(caught.value)


def test_hashes_are_compared_in_constant_time(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(left: bytes, right: bytes) -> bool:
        compared.append((left, right))
        return hmac.compare_digest(left, right)

    monkeypatch.setattr(keys, "compare_digest", compare)
    Gate(file).tenant(bearer(ANN))
    assert compared == [(hashlib.sha256(ANN.encode()).digest(),) * 2]


def test_a_mounted_secret_names_owners_by_its_files(tmp_path: Path) -> None:
    secret = MountedSecret(tmp_path)
    secret.write({"ann": keys.line_of(ANN), "list": f"{keys.line_of(BEN, 'ben')}\n"})
    door = Gate(secret.path)
    assert [door.tenant(bearer(key)) for key in (ANN, BEN)] == ["ann", "ben"]


def test_what_an_editor_leaves_behind_is_no_file_of_keys(tmp_path: Path) -> None:
    (tmp_path / "ann").write_text(keys.line_of(ANN))
    (tmp_path / ".ann.swp").write_bytes(b"\xff")
    assert len(Gate(tmp_path)) == 1


def test_an_owner_may_have_several_keys(tmp_path: Path) -> None:
    (tmp_path / "ann").write_text(f"{keys.line_of(ANN)}\n{keys.line_of(BEN)}\n{keys.line_of(ANN)}\n")
    door = Gate(tmp_path)
    assert [door.tenant(bearer(key)) for key in (ANN, BEN)] == ["ann", "ann"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "keys.txt holds no key, so that nobody could call"),
        (b"ann: secret-in-clear\n", "keys.txt, line 1: expected OWNER: sha256:HASH"),
        (b"\xff\xfe", "keys.txt is not text"),
        (f"{keys.line_of(ANN, 'ann')}\n{keys.line_of(ANN, 'ben')}".encode(), "gives one key to both 'ann' and 'ben'"),
    ],
)
def test_a_file_of_no_use_is_told_of_and_the_former_keys_stay(file: Path, content: bytes, words: str) -> None:
    door = Gate(file)
    file.write_bytes(content)
    for use in (door.reload, lambda: Gate(file)):
        with pytest.raises(InvalidSettingsError, match=re.escape(words)) as caught:
            use()
        assert str(caught.value).startswith("--api-keys (or ONCESERVE_API_KEYS): ")
        assert "secret-in-clear" not in str(caught.value)
    assert door.tenant(bearer(ANN)) == "ann"


def test_a_file_that_is_not_there_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettingsError, match=r"there is no .*none"):
        Gate(tmp_path / "none")


def test_rotation_takes_and_drops_keys(file: Path) -> None:
    door = Gate(file)
    file.write_text(keys.line_of(BEN, "ben"))
    door.reload()
    assert door.tenant(bearer(BEN)) == "ben"
    with pytest.raises(UnauthenticatedError):
        door.tenant(bearer(ANN))


def test_the_command_prints_a_key_and_the_line_that_takes_it(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("onceserve")), "hash-key", "--owner", "ann"]
    key, line = subprocess.run(
        command, check=True, capture_output=True, text=True, env={"PATH": os.environ["PATH"]}
    ).stdout.splitlines()
    (tmp_path / "keys").write_text(line)
    assert Gate(tmp_path / "keys").tenant(bearer(key)) == "ann"


def test_the_command_refuses_an_owner_that_no_file_could_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["hash-key", "--owner", "a: b"])
    assert "expected letters, digits" in capsys.readouterr().err


def test_only_probes_metrics_and_the_page_itself_are_open() -> None:
    assert {"/v2/health/live", "/v2/health/ready", "/metrics", "/docs"} == gate.OPEN_PATHS
