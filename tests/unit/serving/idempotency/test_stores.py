import subprocess
import sys

import pytest

from onceserve_serving.errors import InvalidSettingsError
from onceserve_serving.idempotency.stores import check_type, open_ledger, open_store, type_of

LIBRARIES = ("redis", "asyncpg", "sqlite3")
SHOW = (
    "import sys; from onceserve_serving.idempotency.stores import open_store; open_store(sys.argv[1]); "
    "print(*(name for name in sys.argv[2:] if name in sys.modules))"
)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "begins with none of memory:, sqlite:, redis:"),
        ("mysql://user:hidden@host/db", "begins with none of"),
        ("redis://user:hidden@host:port/0", "its host or port has a wrong form"),
        ("redis://user:hidden@[host/0", "its host or port has a wrong form"),
        ("redis://user:hidden@host?timeout=soon", "timeout: a number was expected"),
        ("redis://user:hidden@host?timeout=0", "timeout: more than 0 and at most 60"),
        ("redis://user:hidden@host?timeout=nan", "timeout: more than 0 and at most 60"),
        ("redis://user:hidden@host?replicas=-1", "replicas: 0 or more"),
        ("redis://user:hidden@host?replicas=1.5", "replicas: a number"),
        ("redis://user:hidden@host?db=hidden", "Invalid value for 'db'"),
        ("redis://user:hidden@host?colour=hidden", "its URL has an option that is unknown or wrong"),
        ("sqlite://host/path", "a path was expected, as in sqlite:///"),
        ("sqlite:", "a path was expected"),
        ("sqlite:///path?mode=memory", "options that it does not take: mode"),
        ("memory:?size=1", "options that it does not take: size"),
        ("memory://x", "nothing was expected after memory:"),
    ],
)
def test_a_url_that_means_no_store_is_refused_without_its_secrets(url: str, words: str) -> None:
    with pytest.raises(InvalidSettingsError, match=words) as refused:
        open_store(url)
    assert "hidden" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("memory:", "memory"),
        ("sqlite:///tmp/x", "sqlite"),
        ("redis://host", "redis"),
        ("rediss://host", "redis"),
        ("valkey://host", "redis"),
        (" VALKEYS://host", "redis"),
        ("postgresql://host/d", "postgresql"),
        ("postgres://host/d", "postgresql"),
        ("mysql://host", ""),
        ("redis://[host", "redis"),
        ("", ""),
    ],
)
def test_a_url_is_of_a_type(url: str, found: str) -> None:
    assert type_of(url) == found
    check_type(url, found)
    check_type(url, "")


def test_a_url_of_another_type_is_refused_without_its_secrets() -> None:
    with pytest.raises(InvalidSettingsError) as refused:
        check_type("valkey://:hidden@host", "postgresql")
    assert str(refused.value) == (
        "--idempotency-store-type (or ONCESERVE_IDEMPOTENCY_STORE_TYPE): the store is to be of the type postgresql, "
        "and its URL begins with valkey:"
    )


@pytest.mark.parametrize("url", ["memory:", "sqlite:///tmp/x", "redis://host", "mysql://host", ""])
def test_only_postgresql_has_a_ledger(url: str) -> None:
    with pytest.raises(InvalidSettingsError, match="only a store postgresql:// has a ledger"):
        open_ledger(url)


@pytest.mark.parametrize(
    ("url", "library"),
    [("memory:", ""), ("sqlite:///x", "sqlite3"), ("redis://h", "redis"), ("postgresql://h", "asyncpg")],
)
def test_the_library_of_a_store_is_imported_for_it_alone(url: str, library: str) -> None:
    shown = subprocess.run([sys.executable, "-c", SHOW, url, *LIBRARIES], check=True, capture_output=True, text=True)
    assert shown.stdout.strip() == library


@pytest.mark.parametrize(("url", "package"), [("redis://h", "redis"), ("postgresql://h/d", "asyncpg")])
def test_a_store_whose_library_is_missing_says_so(monkeypatch: pytest.MonkeyPatch, url: str, package: str) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package or ".idempotency." in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InvalidSettingsError, match=f"needs the Python package {package}"):
        open_store(url)
