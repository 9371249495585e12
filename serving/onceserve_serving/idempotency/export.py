"""The ledger in forms that people and programs read, a line for each entry."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple, TextIO

from onceserve_serving.idempotency.ledger import Ledger, LedgerEntry, LedgerFilter

WIDTHS: Final = {"completed_at": 32, "tenant": 16, "model": 20, "revision": 24, "attempt": 7, "status": 6, "record": 64}
"""Columns of the table, and the characters that they have at least: what comes later is not known yet."""

FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet compute a text."""


class Format(NamedTuple):
    """What is written first, if anything, and the line of an entry."""

    header: str
    line: Callable[[LedgerEntry], str]


async def write(ledger: Ledger, wanted: Sequence[LedgerFilter], form: str, to: TextIO) -> None:
    """Open the ledger, write the entries that any filter wants as they come, and close it; errors are the ledger's."""
    header, line = FORMATS[form]
    try:
        await ledger.open()
        to.write(header)
        for each in wanted:
            async for entry in ledger.entries(each):
                to.write(line(entry))
        to.flush()
    finally:
        await ledger.close()


def values(entry: LedgerEntry) -> dict[str, str | int]:
    """Return an entry by the names of its fields: hashes in hex, times by ISO 8601."""
    return {name: _plain(value) for name, value in entry._asdict().items()}


def as_json(entry: LedgerEntry) -> str:
    """Return an entry as a line of JSON."""
    return json.dumps(values(entry)) + "\n"


def as_csv(entry: LedgerEntry) -> str:
    """Return an entry as a line of CSV; texts that a spreadsheet would compute begin with an apostrophe."""
    return _row([_harmless(value) for value in values(entry).values()])


def as_table(entry: LedgerEntry) -> str:
    """Return an entry as a line for people; what a terminal would not show as it is, is escaped."""
    told = values(entry)
    return _columns({name: _printable(str(told[name])) for name in WIDTHS})


def _plain(value: object) -> str | int:
    match value:
        case bytes():
            return value.hex()
        case datetime():
            return value.isoformat()
        case int():
            return value
        case _:
            return str(value)


def _harmless(value: str | int) -> str | int:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _printable(text: str) -> str:
    return "".join([char if char.isprintable() else ascii(char)[1:-1] for char in text])


def _row(fields: Iterable[str | int]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC).writerow(fields)
    return line.getvalue()


def _columns(texts: Mapping[str, str]) -> str:
    return "  ".join([texts[name].ljust(width) for name, width in WIDTHS.items()]).rstrip() + "\n"


FORMATS: Final[Mapping[str, Format]] = {
    "table": Format(_columns({name: name.upper() for name in WIDTHS}), as_table),
    "jsonl": Format("", as_json),
    "csv": Format(_row(LedgerEntry._fields), as_csv),
}
