import csv
import io
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onceserve_serving.idempotency.export import FORMATS, WIDTHS, as_csv, as_json, as_table
from onceserve_serving.idempotency.ledger import LedgerEntry

AT = datetime(2026, 11, 20, 22, 42, tzinfo=UTC)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
NUMBER = st.integers(0, 2**31)
TIME = st.datetimes(timezones=st.just(UTC))
ENTRIES = st.builds(
    LedgerEntry, NUMBER, st.binary(), st.binary(), TEXT, TEXT, TEXT, TEXT, NUMBER, NUMBER, NUMBER, TIME, TIME
)


def entry(**changes: object) -> LedgerEntry:
    whole = LedgerEntry(7, b"\x01" * 32, b"\x02" * 40, "ann", "risk", "sha256:aa", "risk-1", 2, 9, 200, AT, AT)
    return whole._replace(**changes)  # type: ignore[arg-type]


def test_json_has_every_field() -> None:
    assert json.loads(as_json(entry())) == {
        "id": 7,
        "record": "01" * 32,
        "request": "02" * 40,
        "tenant": "ann",
        "model": "risk",
        "model_digest": "sha256:aa",
        "revision": "risk-1",
        "attempt": 2,
        "fence": 9,
        "status": 200,
        "started_at": "2026-11-20T22:42:00+00:00",
        "completed_at": "2026-11-20T22:42:00+00:00",
    }


@given(ENTRIES)
def test_json_is_one_line_of_ascii(given_entry: LedgerEntry) -> None:
    line = as_json(given_entry)
    assert line.isascii()
    assert line.index("\n") == len(line) - 1
    assert json.loads(line)["tenant"] == given_entry.tenant


@given(ENTRIES)
def test_csv_has_the_same_behind_apostrophes_where_a_spreadsheet_would_compute(given_entry: LedgerEntry) -> None:
    [row] = csv.reader(io.StringIO(as_csv(given_entry), newline=""))
    told = json.loads(as_json(given_entry))
    assert not [field for field in row if field.startswith(("=", "+", "-", "@", "\t", "\r"))]
    for field, value in zip(row, told.values(), strict=True):
        assert field in (str(value), f"'{value}")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://x","y")'])
def test_no_text_is_a_formula(text: str) -> None:
    [row] = csv.DictReader(io.StringIO(FORMATS["csv"].header + as_csv(entry(tenant=text)), newline=""))
    assert row["tenant"] == f"'{text}"
    assert row["model"] == "risk"


@given(ENTRIES)
def test_a_table_shows_nothing_that_moves_a_terminal(given_entry: LedgerEntry) -> None:
    assert as_table(given_entry).removesuffix("\n").isprintable()


def test_a_table_has_its_columns_below_their_names() -> None:
    header, line = FORMATS["table"].header, as_table(entry(tenant="a\x1b[31m"))
    assert header.split() == [name.upper() for name in WIDTHS]
    assert line[header.index("TENANT") :].startswith("a\\x1b[31m ")
    assert line[header.index("STATUS") :].split() == ["200", "01" * 32]


def test_times_keep_their_zone() -> None:
    at = AT.astimezone(timezone(timedelta(hours=1)))
    assert json.loads(as_json(entry(completed_at=at)))["completed_at"] == "2026-11-20T23:42:00+01:00"
