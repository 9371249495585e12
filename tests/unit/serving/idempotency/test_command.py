"""`onceserve ledger`: what it makes of its options."""

from datetime import UTC, datetime
from typing import Any

import pytest

from onceserve_serving.errors import InvalidSettingsError
from onceserve_serving.idempotency.command import filters
from onceserve_serving.idempotency.keys import Keys
from onceserve_serving.idempotency.ledger import LedgerFilter
from onceserve_serving.main import main, parser

URL = "postgresql://ann:secret@127.0.0.1:1/x"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONCESERVE_IDEMPOTENCY_STORE", raising=False)
    monkeypatch.delenv("ONCESERVE_IDEMPOTENCY_SCOPE", raising=False)


def options(*arguments: str) -> dict[str, Any]:
    return vars(parser().parse_args(["ledger", *arguments]))


def ends(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int | str | None, str]:
    with pytest.raises(SystemExit) as ended:
        main(["ledger", *arguments])
    return ended.value.code, capsys.readouterr().err.splitlines()[-1]


def test_without_options_all_is_wanted() -> None:
    assert filters(options()) == [LedgerFilter()]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-11-20T22:42:00Z", datetime(2026, 11, 20, 22, 42, tzinfo=UTC)),
        ("2026-11-20 22:42", datetime(2026, 11, 20, 22, 42, tzinfo=UTC)),
        ("2026-11-20T22:42:00+01:00", datetime(2026, 11, 20, 21, 42, tzinfo=UTC)),
    ],
)
def test_times_are_utc_unless_they_say_otherwise(given: str, expected: datetime) -> None:
    [wanted] = filters(options("--since", given, "--tenant", "ann", "--model", "risk", "--record", "ab" * 32))
    assert wanted == LedgerFilter(tenant="ann", model="risk", record=b"\xab" * 32, since=expected)


@pytest.mark.parametrize("given", ["order-7", '"order-7"'])
def test_a_key_is_looked_for_by_each_way_that_its_request_may_have_come(given: str) -> None:
    wanted = filters(options("--key", given, "--tenant", "ann", "--scope", "default/risk"))
    keys = Keys(scope=b"default/risk")
    routes = (
        "POST /v2/models/{model}/infer",
        "POST /v2/models/{model}/versions/{version}/infer",
        "/inference.GRPCInferenceService/ModelInfer",
    )
    assert [one.record for one in wanted] == [keys.record(b"order-7", "ann", route) for route in routes]
    assert {one.tenant for one in wanted} == {"ann"}


def test_the_environment_names_store_and_scope(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONCESERVE_IDEMPOTENCY_STORE", URL)
    monkeypatch.setenv("ONCESERVE_IDEMPOTENCY_SCOPE", "default/risk")
    given = options("--key", "a")
    assert (given["store"], given["scope"]) == (URL, "default/risk")


def test_a_time_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(InvalidSettingsError, match=r"^--until: a time after --since was expected$"):
        filters(options("--since", "2026-11-20", "--until", "2026-11-20"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--since", "yesterday"], "argument --since: expected a time by ISO 8601, as 2026-11-20 or "),
        (["--until", "0001-01-01T00:00+10:00"], "argument --until: expected a time by ISO 8601"),
        (["--record", "ab"], "argument --record: expected 64 hex digits"),
        (["--record", "x" * 64], "argument --record: expected 64 hex digits"),
        (["--key", ""], "argument --key: Idempotency-Key has 0 characters; expected 1 to 255"),
        (["--key", "a b"], "argument --key: Idempotency-Key has a wrong form; expected 1 to 255"),
        (["--tenant", "a\udcff"], "argument --tenant: expected printable text"),
        (["--key", "a", "--record", "ab" * 32], "argument --record: not allowed with argument --key"),
        (["--format", "xml"], "argument --format: invalid choice: 'xml' (choose from "),
        ([], "--store (or ONCESERVE_IDEMPOTENCY_STORE): a URL postgresql://… was expected"),
        (["--store", "memory:"], "only a store postgresql:// has a ledger"),
        (["--store", "postgresql://[x/y"], "the store's URL is not a URL; its host or port has a wrong form"),
    ],
)
def test_what_is_wrong_is_told(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = ends(arguments, capsys)
    assert code == 2
    assert told.startswith("onceserve ledger: ")
    assert message in told


def test_a_store_that_is_not_there_is_told_without_its_password(capsys: pytest.CaptureFixture[str]) -> None:
    code, told = ends(["--store", URL], capsys)
    assert code == 1
    assert "127.0.0.1:1/x" in told
    assert "secret" not in told
