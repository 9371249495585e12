from pathlib import Path

import pytest

from onceserve_serving.errors import InvalidKeyError
from onceserve_serving.idempotency import keys
from onceserve_serving.idempotency.keys import Keys


def made(mode: str = "optional", store: str = "memory:", on_conflict: str = "refuse") -> Keys:
    return keys.make(mode=mode, store=store, scope="ns/name", on_conflict=on_conflict, secret=None)


def test_a_key_is_optional_unless_it_is_required() -> None:
    assert made().of([]) is None
    assert made().of([b"a"]) == b"a"
    assert made("required").of([b"a"]) == b"a"
    with pytest.raises(InvalidKeyError, match="an Idempotency-Key is required here; expected 1 to 255 visible ASCII"):
        made("required").of([])


@pytest.mark.parametrize("without", [Keys(), made(store=""), made("disabled")])
def test_without_a_store_a_key_is_refused_and_its_lack_is_not(without: Keys) -> None:
    assert without.of([]) is None
    with pytest.raises(InvalidKeyError, match="keeps no answers, so that it cannot heed an Idempotency-Key"):
        without.of([b"a"])


@pytest.mark.parametrize("mode", ["required", "optional"])
@pytest.mark.parametrize("bad", [[b""], [b"a", b"b"], [b'"a']])
def test_a_bad_key_is_refused_in_every_mode(mode: str, bad: list[bytes]) -> None:
    with pytest.raises(InvalidKeyError):
        made(mode).of(bad)


def test_a_key_is_one_for_each_tenant_scope_and_route() -> None:
    taken = made()
    elsewhere = Keys(taken=True, scope=b"ns/other")
    records = {
        taken.record(b"k", "", "POST /r"),
        taken.record(b"k", "tenant", "POST /r"),
        taken.record(b"k", "", "POST /s"),
        taken.record(b"K", "", "POST /r"),
        elsewhere.record(b"k", "", "POST /r"),
    }
    assert len(records) == 5
    assert {len(record) for record in records} == {32}
    assert taken.record(b"k", "", "POST /r") in records


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, 0),
        (b"", 0),
        (b"wait=5", 5),
        (b"Wait=5", 5),
        (b"wait = 5", 5),
        (b"respond-async, wait=5", 5),
        (b"wait=5,respond-async", 5),
        (b"wait=5, wait=7", 5),
        (b"wait=0", 0),
        (b"wait=31", 30),
        (b"wait=" + b"9" * 400, 30),
        (b"wait=-1", 0),
        (b"wait=1.5", 0),
        (b"wait=x", 0),
        (b"await=5", 0),
        (b"wait", 0),
    ],
)
def test_who_prefers_to_wait_waits_so_long(prefer: bytes | None, seconds: float) -> None:
    assert made().wait(prefer, 30) == seconds


@pytest.mark.parametrize(("prefer", "seconds"), [(None, 30), (b"wait=5", 5), (b"wait=0", 0), (b"respond-async", 30)])
def test_a_server_may_wait_for_all_who_do_not_say_otherwise(prefer: bytes | None, seconds: float) -> None:
    assert made(on_conflict="wait").wait(prefer, 30) == seconds


def test_the_secret_is_the_file_s(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("0123456789abcdef\n")
    taken = keys.make(mode="optional", store="memory:", scope="", on_conflict="refuse", secret=file)
    assert taken.fingerprinter.of(b"", b"") != made().fingerprinter.of(b"", b"")
